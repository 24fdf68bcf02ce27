"""Write messages.json: a small text data set in 20newsgroups' shape, drawn with a fixed seed.

The sentences and words below were written for this project. A message is mostly words that all
groups share; some belong to one group, and some pairs of words tell groups apart by their order.
"""

import json
import random
from pathlib import Path

GROUPS = {
    "rec.autos": "engine tyre gearbox clutch mileage garage exhaust brakes hatchback dealer",
    "rec.sport.hockey": "puck goalie skates rink overtime penalty playoff coach defender stick",
    "sci.electronics": "resistor voltage soldering diode circuit capacitor amplifier relay scope",
    "sci.space": "orbit rocket lander telescope payload crater satellite probe booster comet",
}
SHARED = "power speed light field drive control track board signal pressure range cold line test"
COMMON = (
    "the a this that my your some any really never always often maybe again today yesterday "
    "think read bought sold wrote saw heard asked know found need want would could should "
    "price problem question idea answer friend week month year model thing story reason way"
)
# Each pair is written in this order in the first and third group, and reversed in the others
ORDERED = (("high", "quality"), ("full", "time"), ("long", "shot"), ("open", "source"))
SYLLABLES = "ba do ki lu me no pa ri so tu ve za"  # of words that occur once or twice
NAMES = ("ana", "boris", "chen", "dora", "emil", "farah", "goran", "hana")
TRAIN, TEST = 50, 25  # messages of each group


def message(draw: random.Random, group: int) -> str:
    """One message: headers, then a few sentences."""
    own = list(GROUPS.values())[group].split()
    words = []
    for _ in range(draw.randint(18, 34)):
        kind = draw.random()
        if kind < 0.07:
            words.append(draw.choice(own))
        elif kind < 0.13:
            pair = draw.choice(ORDERED)
            words += pair if group % 2 == 0 else pair[::-1]
        elif kind < 0.17:  # somebody else's subject
            words.append(draw.choice(draw.choice(list(GROUPS.values())).split()))
        elif kind < 0.22:
            words.append("".join(draw.choices(SYLLABLES.split(), k=3)))
        else:
            words.append(draw.choice((SHARED if kind < 0.35 else COMMON).split()))
    for place in range(8, len(words), 9):
        words[place] += "."
    sender = draw.choice(NAMES)
    subject = f"{draw.choice(SHARED.split())} {draw.choice(COMMON.split())}"
    return f"From: {sender}@example.org\nSubject: {subject}\n\n{' '.join(words).capitalize()}.\n"


def main() -> None:
    """Write the file beside this one."""
    draw = random.Random(20)
    content: dict = {"target_names": list(GROUPS)}
    for subset, size in {"train": TRAIN, "test": TEST}.items():
        targets = [group for group in range(len(GROUPS)) for _ in range(size)]
        draw.shuffle(targets)
        texts = [message(draw, group) for group in targets]
        content[subset] = {"data": texts, "target": targets}
    Path(__file__).with_name("messages.json").write_text(json.dumps(content, indent=0) + "\n")


if __name__ == "__main__":
    main()
