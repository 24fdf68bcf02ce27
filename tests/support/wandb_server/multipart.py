"""Uploads in parts, as the SDK makes them of files of 2 GiB and more.

The fields are those that wandb-core 0.31 asks for in CreateArtifactFiles and gives in
CompleteMultipartUploadArtifact; that each part is answered with an ETag, which the client has to
give back, is S3's: https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPart.html
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Upload:
    """One file, whose bytes are compared with what was announced, and not kept.

    Attributes:
        key: the blob's, and the upload's id.
        announced: the MD5 of each part in hex, by its number.
        taken: the ETags of the parts that are here.
    """

    key: str
    announced: dict[int, str]
    taken: dict[int, str] = field(default_factory=dict)
    complete: bool = False

    @classmethod
    def of(cls, key: str, parts: Sequence[Mapping[str, Any]]) -> "Upload":
        """An upload of the parts that a client announces."""
        return cls(key, {part["partNumber"]: part["hexMD5"] for part in parts})

    def urls(self, storage: str) -> dict[str, Any]:
        """Where each part may be put, below the address of the storage."""
        parts = [
            {"partNumber": n, "uploadUrl": f"{storage}/{self.key}/{n}"} for n in self.announced
        ]
        return {"uploadID": self.key, "uploadUrlParts": parts}

    def take(self, number: int, digest: str) -> str | None:
        """Take a part; its ETag, or None if its bytes are not those announced."""
        if self.announced.get(number) != digest:
            return None
        self.taken[number] = f'"{digest}"'
        return self.taken[number]

    def finish(self, parts: Sequence[Mapping[str, Any]]) -> bool:
        """Whether a client has all parts and names them, in order, by the ETags it was given."""
        named = [(part["partNumber"], part["hexMD5"]) for part in parts]
        self.complete = named == sorted(self.taken.items()) and len(named) == len(self.announced)
        return self.complete
