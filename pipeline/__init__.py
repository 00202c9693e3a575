"""The contract every other package builds on: tasks, episodes, shards, parameters and stages."""

from pipeline import program

program.begin()
