"""A batch through the scaled-out size while its parts are killed: `make chaos`.

    python -m tests.chaos                     a new seed, printed
    python -m tests.chaos --seed 7            the same blows at the same moments
    python -m tests.chaos --requests 5000     shorter

`schedule` says which blow falls when, `run` strikes, `proof` looks at what is left.
"""
