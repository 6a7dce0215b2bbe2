"""What each method trains, written with transformers and PEFT, by the names of dtrain's checkpoints."""
import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

from dtrain import DELTA


class Full:
    """Every weight of the backbone, by its own name."""

    NAMES = ""  # ends of the names of what is trained

    def __init__(self, case, model):
        self.model = model
        for name, p in model.named_parameters():
            p.requires_grad_(name.endswith(self.NAMES))

    def trained(self):
        return {name: p.detach().clone() for name, p in self.model.named_parameters() if p.requires_grad}

    def load(self, delta):
        with torch.no_grad():
            for name, p in self.model.named_parameters():
                if p.requires_grad:
                    p.copy_(delta[name])


class BitFit(Full):
    """The biases that the backbone has."""

    NAMES = ".bias"


class Lora:
    """PEFT's own; a parameter's name is its module's path behind the delta's name."""

    PEFT = "base_model.model."

    def __init__(self, case, model):
        self.model = get_peft_model(model, LoraConfig(
            r=case.rank, lora_alpha=case.alpha, use_rslora=case.rs, target_modules=list(case.targets), lora_dropout=0.0,
            bias="none", task_type="CAUSAL_LM", fan_in_fan_out=model.config.model_type == "gpt2"))  # [I,O]

    def trained(self):
        state = get_peft_model_state_dict(self.model)
        return {f"{DELTA}.{name.removeprefix(self.PEFT)}": value.clone() for name, value in state.items()}

    def load(self, delta):
        renamed = {self.PEFT + name.removeprefix(DELTA + "."): value for name, value in delta.items()}
        assert not set_peft_model_state_dict(self.model, renamed).unexpected_keys


class Fish:
    """Differences from the frozen weights at the chosen entries; elsewhere NaN, as read_delta gives them. A weight
    without a chosen entry is in no checkpoint."""

    def __init__(self, case, model):
        self.model, self.weight, self.frozen, self.chosen = model, {}, {}, {}
        for name, p in model.named_parameters():
            p.requires_grad_(name.removesuffix(".weight").removesuffix(".bias").endswith(case.targets))
            if p.requires_grad:
                self.weight[name] = p
                self.frozen[name] = p.detach().clone()

    def trained(self):
        return {f"{DELTA}.{name}": (self.weight[name].detach() - self.frozen[name]).masked_fill(~chosen, float("nan"))
                for name, chosen in self.chosen.items() if chosen.any()}

    def load(self, delta):
        for name, p in self.weight.items():
            value = delta.get(f"{DELTA}.{name}", torch.full_like(p, float("nan")))
            if name not in self.chosen:
                p.register_hook(lambda grad, name=name: grad * self.chosen[name])
            self.chosen[name] = ~value.isnan()
            with torch.no_grad():
                p.copy_(self.frozen[name] + value.nan_to_num(0.0))

    def choose(self, rows, keep):
        """Sung et al. 2021: the largest sums of squared gradients of single rows' losses. {name: chosen entries}"""
        fisher = {name: torch.zeros_like(p) for name, p in self.weight.items()}
        for ids, loss_from in rows:
            first = max(loss_from, 1)
            if first >= len(ids):
                continue
            logits = self.model(input_ids=torch.tensor([ids])).logits[0, first - 1 : -1]
            loss = F.cross_entropy(logits, torch.tensor(ids[first:]), reduction="sum")
            for name, grad in zip(fisher, torch.autograd.grad(loss, list(self.weight.values()))):
                fisher[name] += grad.square()
        scores = torch.cat([score.flatten() for score in fisher.values()])
        least = scores.topk(int(keep * len(scores))).values[-1]
        return {name: score >= least for name, score in fisher.items()}


METHODS = {"full": Full, "bitfit": BitFit, "lora": Lora, "fish": Fish}
