"""Between the turns and the backends: who signs an order, and how remote ones are called.

`lanes` chooses a backend for an order and hands it on when one fails,
`dispatcher` calls one remote backend under its limits, `pace` keeps its rate,
`breaker` leaves it alone while it is down, `calls` repeats what may be
repeated, `intents` remembers what a costly CA may have issued.
"""
