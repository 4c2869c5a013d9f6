"""What channels into chat rooms (Matrix, Discord) have in common.

base        what a channel promises, and the values that pass between it and the door
door        takes what was said in a room and does everything alike, whatever the service
showing     an answer as it grows: typing, placeholder, edits inside a budget, the last words
admission   who may talk, when there is an answer, how often machines may answer each other
known       a sender's account: linked, a guest's, or none
orders      commands that were typed in a room, and questions that wait for a yes
notices     the end of long work, told where it was asked for
budget      how often a service lets us write, learnt from it
splitting   a long text in several messages
records     the tables: what came, what is to be answered, which place is which conversation
accounts    the channels that are configured, their secrets and their state
manager     runs them, each by itself
"""
