"""An intermediate CA from people: a request goes out, a certificate comes back.

For a CA that no program may ask: a corporate root with a ceremony, a form, a
ticket. `request` makes what they sign, from a key in a file or in an HSM;
`handover` takes what they return, once all of it was checked against that key.
"""
