"""Discord, for the doors of rooms: discord.py heard and spoken to, and nothing decided.

channel     an account there: its token, its life, what it needs, the link that lets it in
client      what the gateway says, and what was said while nobody listened
reading     a message there as an `Incoming`; which chain of replies it belongs to
surface     how the door writes there, within the limits that the headers announce
rendering   Markdown as Discord shows it
slash       the commands of the registry as Discord's, registered where they differ
pressing    what people press: slash commands, menus of messages, buttons
failures    what discord.py raises, as the errors of channels
"""
