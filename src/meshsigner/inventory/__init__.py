"""Where issued certificates are written down and read again.

`sqlite` is the store behind `ports.Inventory`; `reading` answers questions
about it from another process. `query` and `columns` know no database: another
store uses them as they are.
"""
