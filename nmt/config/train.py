"""The section ``train``: optimization, limits, validation and checkpoints."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from nmt.config.base import RESUMABLE, Positive, Probability, Section
from nmt.config.schedule import Descent, ScheduleConfig
from nmt.config.terms import TermsConfig


class OptimizerConfig(Section):
    name: Literal["adam", "adamw"] = Field(
        "adam",
        description="adam (Kingma and Ba 2015), or adamw with decoupled weight decay (Loshchilov and Hutter 2019)",
    )
    lr: Annotated[float, Field(gt=0.0)] = Field(1e-3, description="peak learning rate")
    betas: Annotated[list[Probability], Field(min_length=2, max_length=2)] = Field(
        [0.9, 0.98], description="decay rates of the moment estimates"
    )
    eps: Annotated[float, Field(gt=0.0)] = Field(1e-9, description="added to the denominator of the update")
    weight_decay: Annotated[float, Field(ge=0.0)] = Field(
        0.0, description="strength of weight decay, for matrices only"
    )


class TrainConfig(Section):
    batch_tokens: Positive = Field(
        4096,
        description="budget of a batch: sentences times the longest side, padding counted, stays within it, or with"
        " batching: packed the tokens of each side;"
        " each process of torchrun has its own batches, so this is per device",
    )
    batching: Literal["auto", "padded", "packed"] = Field(
        "auto",
        description="padded: sentences of similar length, padded to the longest; packed: sentences in random"
        " order, one after another without padding, at most batch_tokens per side; auto: packed for a Transformer on"
        " CUDA, where an update is then one CUDA graph. A run keeps its first choice",
        json_schema_extra=RESUMABLE,
    )
    accumulate: Positive = Field(
        1,
        description="batches per update and process: N processes accumulating k make the same updates as one that"
        " accumulates N * k",
    )
    parallel: Literal["auto", "replicated", "sharded"] = Field(
        "auto",
        description="state of each process of torchrun; replicated: the whole model (DistributedDataParallel);"
        " sharded: its share of the weights, gradients, moments and averages (FSDP2), for models that need more memory"
        " than a device has; auto: sharded on CUDA where these take over half of a device's memory. Checkpoints are the"
        " same files, and resume with any number of processes",
        json_schema_extra=RESUMABLE,
    )
    compress_gradients: Literal["bf16"] | None = Field(
        None,
        description="bf16: the processes of torchrun exchange gradients in bf16, half the bytes, for networks slower"
        " than the devices; it rounds them, and changes nothing for one process; null: fp32",
    )
    max_steps: Positive | None = Field(None, description="stop after this many updates", json_schema_extra=RESUMABLE)
    max_epochs: Positive | None = Field(
        None, description="stop after this many passes over the corpus", json_schema_extra=RESUMABLE
    )
    max_minutes: Annotated[float, Field(gt=0.0)] | None = Field(
        None,
        description="stop after this many minutes of training, validation included, summed over restarts",
        json_schema_extra=RESUMABLE,
    )
    patience: Positive | None = Field(
        None, description="stop after this many validations without progress, see score", json_schema_extra=RESUMABLE
    )
    score: Literal["bleu", "chrf", "loss"] = Field(
        "bleu", description="validation score that decides on the best checkpoint, patience and plateaus; see selection"
    )
    selection: Literal["validated", "score"] = Field(
        "validated",
        description="validated: where score is unreliable (BLEU that rests on fewer than 10 matching 4-grams, equal"
        " scores), chrF and then the loss decide, and a mean of weights becomes the final model only if it validates"
        " better than the weights it stands for; score: only the score decides, and a mean is not validated",
        json_schema_extra=RESUMABLE,
    )
    label_smoothing: Probability = Field(
        0.1, description="probability mass spread over all subwords in the training loss (Szegedy et al. 2016)"
    )
    bidirectional_epochs: Positive | None = Field(
        None,
        description="number of first epochs that read half of the pairs from target to source, in every other epoch the"
        " other half (bidirectional training, Ding et al. 2021); needs tokenizer.joint; null: off",
    )
    terms: TermsConfig = Field(TermsConfig(), description="regularisers and other terms of the training loss")
    optimizer: OptimizerConfig = Field(OptimizerConfig(), description="optimizer and peak learning rate")
    schedule: ScheduleConfig = Field(ScheduleConfig(), description="learning rate over steps")
    clip_norm: Annotated[float, Field(gt=0.0)] | None = Field(
        1.0, description="largest gradient norm; null: no clipping"
    )
    ema_decay: Probability | None = Field(
        0.999,
        description="keep an exponential moving average of the weights, and validate with it; at the end, the better of"
        " the average and the weights becomes the final model, see selection. The decay of step s is at most"
        " (1 + s) / (10 + s): 0.999 is reached at step 9,000. The average takes as much memory as the weights; null: no"
        " average",
    )
    average: Positive | None = Field(
        None,
        description="final model: mean of this many checkpoints, see average_of, or the best checkpoint where that"
        " validates better; null: the best checkpoint",
        json_schema_extra=RESUMABLE,
    )
    average_of: Literal["best", "last"] = Field(
        "last",
        description="which checkpoints train.average takes: those with the best scores, or the last ones (where the"
        " best one is not among them, it takes the place of the oldest)",
        json_schema_extra=RESUMABLE,
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="auto: bf16 where the device multiplies matrices in it, else fp32"
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", description="auto: cuda, else mps, else cpu", json_schema_extra=RESUMABLE
    )
    threads: Positive | None = Field(
        None, description="CPU threads of PyTorch; default: one per core", json_schema_extra=RESUMABLE
    )
    readers: Annotated[int, Field(ge=1, le=256)] = Field(
        1,
        description="threads that read batches ahead, for sampling and modifiers; the batches and their order are the"
        " same for any number",
        json_schema_extra=RESUMABLE,
    )
    compile: bool = Field(
        False,
        description="run the model through torch.compile: slower on a CPU; on an H100 a Transformer base trained 1.3"
        " times as fast, after 25 to 40 seconds of compiling; a recurrent model compiles for over two minutes",
    )
    deterministic: bool = Field(
        False,
        description="use only PyTorch's deterministic algorithms, so that the same seed gives the same bits on CUDA"
        " (measured on an H100: under 1% slower for a Transformer base); a CPU always gives the same bits",
        json_schema_extra=RESUMABLE,
    )
    validate_every: Positive | Literal["epoch"] = Field("epoch", description="steps between validations")
    valid_beam_size: Positive | None = Field(
        None,
        description="beam of the search during training, for every search.method; default: as in the section"
        " search; 1 is greedy and fast",
    )
    checkpoint_every: Positive | None = Field(
        None, description="steps between checkpoints; default: one at each validation", json_schema_extra=RESUMABLE
    )
    checkpoint_every_minutes: Annotated[float, Field(gt=0.0)] | None = Field(
        15.0,
        description="save a checkpoint when the last one is this old, in addition to those of checkpoint_every and of"
        " validations; such a checkpoint is only for resuming, and the next one replaces it; null: off",
        json_schema_extra=RESUMABLE,
    )
    keep_best: Positive = Field(1, description="best checkpoints kept", json_schema_extra=RESUMABLE)
    keep_last: Positive = Field(1, description="last checkpoints kept", json_schema_extra=RESUMABLE)
    on_save_error: Literal["stop", "continue"] = Field(
        "stop",
        description="when a checkpoint cannot be written (disk full): end the training, or warn and continue",
        json_schema_extra=RESUMABLE,
    )
    max_bad_steps: Positive = Field(
        10,
        description="stop after this many updates in a row were skipped because the gradient was not finite",
        json_schema_extra=RESUMABLE,
    )
    log_every: Positive = Field(50, description="steps between two lines of metrics", json_schema_extra=RESUMABLE)
    samples: Annotated[int, Field(ge=0)] = Field(
        3, description="validation sentences shown as translations and attention maps", json_schema_extra=RESUMABLE
    )
    watch: list[str] = Field(
        [],
        description="source sentences whose translations and attention maps TensorBoard shows at each validation",
        json_schema_extra=RESUMABLE,
    )

    def unused(self) -> dict[str, str]:
        return {"average_of": "average is null: no checkpoints are averaged"} if self.average is None else {}

    @field_validator("watch")
    @classmethod
    def _sentences_have_words(cls, sentences: list[str]) -> list[str]:
        for number, sentence in enumerate(sentences, 1):
            if not sentence.strip():
                raise ValueError(f"sentence {number} is empty; remove it")
        return sentences

    @model_validator(mode="after")
    def _limits_fit(self) -> Self:
        both = self.bidirectional_epochs
        if both and self.max_epochs and self.max_epochs <= both:
            raise ValueError(
                f"bidirectional_epochs ({both}) leaves no epoch of max_epochs ({self.max_epochs}) to source to target"
                " alone; lower it, or raise max_epochs"
            )
        if self.average is not None:
            kept, key = (self.keep_best, "keep_best") if self.average_of == "best" else (self.keep_last, "keep_last")
            if kept < self.average:
                raise ValueError(f"averaging {self.average} checkpoints needs {key} of at least that, not {kept}")
        return self

    def check_end(self, stages_end: bool) -> None:
        """
        Args:
            stages_end: whether the last stage of the data has an end, which ends the training.

        Raises:
            ValueError: nothing ends the training, or its schedule.
        """
        if not (self.max_steps or self.max_epochs or self.max_minutes or self.patience or stages_end):
            raise ValueError("nothing would end the training: set max_steps, max_epochs, max_minutes or patience")
        limited = self.schedule.end == "run" and (self.max_epochs or self.max_minutes or stages_end)
        if self.schedule.ends and self.schedule_end is None and not limited:
            ends = "max_steps, max_epochs, max_minutes" if self.schedule.end == "run" else "max_steps"
            raise ValueError(
                f"a {self.schedule.name} schedule needs its end: set {ends} or schedule.total_steps; or "
                "schedule.name: inverse_sqrt, which needs none"
            )

    @property
    def schedule_end(self) -> int | None:
        """The step at which the learning rate reaches its lowest value; None where it has none, or none is known."""
        return (self.schedule.total_steps or self.max_steps) if self.schedule.ends else None

    @property
    def follows_clock(self) -> bool:
        """Whether the schedule ends with ``max_minutes``, if no other limit ends the training before."""
        schedule = self.schedule
        return bool(schedule.ends and schedule.end == "run" and not schedule.total_steps and self.max_minutes)

    @property
    def descent(self) -> Descent | None:
        """From the end of the warmup to ``schedule_end``."""
        return Descent(self.schedule.warmup_steps, 0.0, end) if (end := self.schedule_end) else None

    def learning_rate(self, step: int, plateau_cuts: int = 0, descent: Descent | None = None) -> float:
        """Learning rate of update ``step`` (the first is 1), after ``plateau_cuts`` plateaus.

        Args:
            descent: instead of the one to ``schedule_end``.
        """
        return self.schedule.rate(step, self.optimizer.lr, descent or self.descent, plateau_cuts)
