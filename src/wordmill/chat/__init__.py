"""Talk: conversations and the taking of turns.

`types` has the values, `conversations` the stored side: a `Conversations` is the one object that
the doors and the turn runner hold.
"""
