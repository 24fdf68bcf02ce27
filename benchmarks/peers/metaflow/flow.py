"""The four steps as a Metaflow flow; each runs in its own process."""

import science
from metaflow import FlowSpec, step


class Pokemon(FlowSpec):
    @step
    def start(self):
        science.download(science.read_settings())
        self.next(self.etl)

    @step
    def etl(self):
        science.etl(science.read_settings())
        self.next(self.split)

    @step
    def split(self):
        science.split(science.read_settings())
        self.next(self.end)

    @step
    def end(self):
        self.metrics = science.train(science.read_settings()).metrics


if __name__ == "__main__":
    Pokemon()
