"""Matrix: rooms, threads and direct rooms, plain and encrypted, with a device that is verified.

channel     one account: its sign-in, its sync, what it hears
surface     how the door writes there
hearing     events of a room as what was said
gaps        what a sync left out is fetched
media       files, encrypted and plain, with limits
identity    cross-signing: keys made once, kept, and restored by a passphrase
store       the library's store of a device, where several accounts run
vault       the server's secret storage, which a passphrase opens
formatting  Markdown as the HTML that Matrix allows
calls       what a homeserver refuses, in our errors
"""
