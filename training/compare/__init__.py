"""`pkdot compare`: all rows of the table, and what is written of them."""
