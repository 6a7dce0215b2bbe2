"""The same training as a user of transformers writes it, in float32."""
import math

import torch
import torch.nn.functional as F
from transformers import get_cosine_schedule_with_warmup

import backbones
from dtrain import STEPS
from methods import METHODS

NO_LOSS = -100


class Reference:
    def __init__(self, case, backbone):
        self.case = case
        self.method = METHODS[case.method](case, backbones.load(backbone))
        self.model = self.method.model

    def inputs(self, batch):
        """A batch as the model takes it, and its targets. One row a sequence: padding on the right with an attention
        mask. Packed: explicit positions, and a mask that is causal within each row's block and the window."""
        shape = len(batch), self.case.seq_len
        ids = torch.zeros(shape, dtype=torch.long)
        targets = torch.full(shape, NO_LOSS)
        position = torch.zeros(shape, dtype=torch.long)
        document = torch.full(shape, -1)
        for b, sequence in enumerate(batch):
            at = 0
            for number, (row, loss_from) in enumerate(sequence):
                end, first = at + len(row), max(loss_from, 1)
                ids[b, at:end] = torch.tensor(row)
                position[b, at:end] = torch.arange(len(row))
                document[b, at:end] = number
                targets[b, at + first - 1 : end - 1] = torch.tensor(row[first:], dtype=torch.long)
                at = end
        if not self.case.packing:
            return {"input_ids": ids, "attention_mask": (document >= 0).long()}, targets
        t = torch.arange(shape[1])
        visible = (t[:, None] >= t) & (document[:, :, None] == document[:, None, :])
        return {"input_ids": ids, "position_ids": position, "attention_mask": self.masks(visible)}, targets

    def masks(self, visible):
        """As the model takes them: one for all layers, or one for each type of layer."""
        config, t = self.model.config, torch.arange(visible.shape[-1])
        window = getattr(config, "sliding_window", None)
        near = visible & (t[:, None] - t < window) if window else visible
        full, sliding = (torch.zeros(v.shape).masked_fill(~v, torch.finfo(torch.float32).min)[:, None]
                         for v in (visible, near))
        by_layer = getattr(config, "layer_types", None) is not None
        return {"full_attention": full, "sliding_attention": sliding} if by_layer else sliding

    def train(self, batches):
        """[(loss, gradient norm before clipping, learning rate, targets)] of each step."""
        case, steps = self.case, []
        named = [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]
        trainable = [p for _, p in named]
        optimizer = case.make_optimizer(named)
        schedule = get_cosine_schedule_with_warmup(optimizer, case.warmup, STEPS)
        schedule.step()  # dtrain counts steps from one: no step has the rate 0 in front of the warm-up
        self.model.train()
        for _ in range(STEPS):
            inputs, targets = self.inputs(next(batches))
            count = (targets != NO_LOSS).sum().item()
            logits = self.model(**inputs).logits.flatten(0, 1)
            loss = F.cross_entropy(logits, targets.flatten(), ignore_index=NO_LOSS, reduction="sum") / count
            optimizer.zero_grad()
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(trainable, case.clip_norm if case.clip_norm > 0 else math.inf)
            steps.append((loss.item(), norm.item(), schedule.get_last_lr()[0], count))
            optimizer.step()
            schedule.step()
        return steps

    def nll(self, rows):
        """Negative log-likelihoods of each row's targets, each row alone."""
        self.model.eval()
        out = []
        for ids, loss_from in rows:
            first = max(loss_from, 1)
            with torch.no_grad():
                logits = self.model(input_ids=torch.tensor([ids])).logits[0, first - 1 : -1]
            out.append(F.cross_entropy(logits, torch.tensor(ids[first:], dtype=torch.long), reduction="none"))
        return out
