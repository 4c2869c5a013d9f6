"""The shell: conversations in a terminal, and single questions in a pipe.

partner    whom a shell speaks to: this machine's house, or a server       local, remote
session    the loop: a line in, an answer out        prompting   the line: keys, history, completion
watching   an answer as it grows, and Ctrl-C         rendering   what the terminal shows of it
"""
