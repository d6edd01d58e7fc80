"""Small changes of bytes, as Hypothesis strategies."""

from hypothesis import strategies as st


@st.composite
def mutated(draw: st.DrawFn, content: bytes) -> bytes:
    """Change, insert or delete a few bytes, or copy a slice elsewhere."""
    body = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(body)))
        size = draw(st.integers(0, 8))
        match draw(st.sampled_from(["change", "insert", "delete", "copy"])):
            case "change":
                body[start : start + size] = draw(st.binary(min_size=size, max_size=size))
            case "insert":
                body[start:start] = draw(st.binary(max_size=8))
            case "delete":
                del body[start : start + size]
            case _:
                source = draw(st.integers(0, len(body)))
                body[start:start] = body[source : source + size * 8]
    return bytes(body)
