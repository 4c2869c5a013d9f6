"""Runs: a recipe executed, resumable, metered, cancellable.

plan       the recipe's columns as numbered steps       execute   cells, rows, what is asked next
outbox     questions on their way to the engine         session   the loop until there is an end
rows       finished rows, into records and dataset      sitting   one sitting with all its parts
registry   which runs there are, and who works on one   launch    from options to a result
"""
