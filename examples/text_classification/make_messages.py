"""Write messages.json: a small text data set in 20newsgroups' format, drawn with a fixed seed.

The words below were written for this project. Most words of a message are common to all groups.
Some belong to one group, and the order of some pairs of words distinguishes groups.
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


def message(rng: random.Random, group: int) -> str:
    """One message: headers, then a few sentences."""
    group_words = list(GROUPS.values())[group].split()
    words = []
    for _ in range(rng.randint(18, 34)):
        number = rng.random()
        if number < 0.07:
            words.append(rng.choice(group_words))
        elif number < 0.13:
            pair = rng.choice(ORDERED)
            words += pair if group % 2 == 0 else pair[::-1]
        elif number < 0.17:  # another group's word
            words.append(rng.choice(rng.choice(list(GROUPS.values())).split()))
        elif number < 0.22:
            words.append("".join(rng.choices(SYLLABLES.split(), k=3)))
        else:
            words.append(rng.choice((SHARED if number < 0.35 else COMMON).split()))
    for index in range(8, len(words), 9):
        words[index] += "."
    sender = rng.choice(NAMES)
    subject = f"{rng.choice(SHARED.split())} {rng.choice(COMMON.split())}"
    return f"From: {sender}@example.org\nSubject: {subject}\n\n{' '.join(words).capitalize()}.\n"


def main() -> None:
    """Write the file beside this one."""
    rng = random.Random(20)
    content: dict = {"target_names": list(GROUPS)}
    for subset, size in {"train": TRAIN, "test": TEST}.items():
        targets = [group for group in range(len(GROUPS)) for _ in range(size)]
        rng.shuffle(targets)
        texts = [message(rng, group) for group in targets]
        content[subset] = {"data": texts, "target": targets}
    Path(__file__).with_name("messages.json").write_text(json.dumps(content, indent=0) + "\n")


if __name__ == "__main__":
    main()
