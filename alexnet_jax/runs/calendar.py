"""The calendar of a training: what is due between two steps."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Due:
    """The actions that are due at a step, in the order in which they happen.

    Attributes:
      flush: write the metrics that are held back.
      validate: evaluate the validation split.
      save: save a checkpoint.
      end: leave the loop.
    """

    flush: bool
    validate: bool
    save: bool
    end: bool


@dataclass(frozen=True)
class Calendar:
    """The steps at which a training validates, saves and ends.

    Attributes:
      steps_per_epoch, total_steps: numbers of batches.
      validate_every: steps between two validations.
      save_every: steps between two checkpoints; 0 for one after every validation only.
    """

    steps_per_epoch: int
    total_steps: int
    validate_every: int
    save_every: int

    def due(self, step: int, *, stopping: bool, reached_target: bool) -> Due:
        """Returns what is due before the batch after `step`.

        Args:
          step: batches trained on.
          stopping: a signal asks the run to stop.
          reached_target: the training error is low enough to end.
        """
        finished = step >= self.total_steps or reached_target
        validate = finished or self.is_regular_validation(step)
        # A validated state is saved, because its error decides which checkpoint is the best.
        save = validate or stopping or _is_multiple(step, self.save_every)
        return Due(
            # A checkpoint must not be ahead of metrics.jsonl, which a resumed run continues.
            flush=save or self.is_epoch_end(step),
            validate=validate,
            save=save,
            end=finished or stopping,
        )

    def is_epoch_end(self, step: int) -> bool:
        """True if an epoch ends at this step."""
        return _is_multiple(step, self.steps_per_epoch)

    def is_regular_validation(self, step: int) -> bool:
        """True if a training of any length validates at this step.

        A training also validates at its own end, where a longer one would not.
        """
        return _is_multiple(step, self.validate_every)


def _is_multiple(step: int, every: int) -> bool:
    # Step 0 is the untrained state, for which nothing is due.
    return step > 0 and every > 0 and step % every == 0
