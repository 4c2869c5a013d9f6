"""The recipe of tickets.yaml from Python: the same digest, and the same rows."""

from pydantic import BaseModel, Field

from wordmill import Category, Judge, Prompt, Recipe, generate


class Urgency(BaseModel):
    """How urgent a ticket is. The schema of a prompt can be a pydantic model."""

    level: int = Field(ge=1, le=5)


LEVEL = {
    "type": "object",
    "properties": {"level": {"type": "integer", "minimum": 1, "maximum": 5}},
    "required": ["level"],
}

recipe = Recipe(
    "tickets",
    seed=7,
    model="rehearsal",
    columns={
        "product": Category(["laptop", "phone"], weights=[2, 1]),
        "mood": Category(["calm", "angry"]),
        "ticket": Prompt("A {{ mood }} customer writes about a {{ product }}."),
        "urgency": Prompt("How urgent is this? {{ ticket }}", schema=LEVEL),  # or schema=Urgency
        "verdict": Judge(
            "ticket", scores={"realism": "0 to 4, is it believable?", "clarity": "0 to 4"}
        ),
    },
    keep="verdict.realism >= 2",
)

if __name__ == "__main__":
    result = generate(recipe, rows=20, out="datasets/tickets")
    for row in result.rows():
        if row["kept"]:
            print(row["urgency"], row["ticket"][:60])
