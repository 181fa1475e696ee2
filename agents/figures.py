"""Measured figures of a plan: from its runs to what `economics` computes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agents import economics
from agents.models import Run
from agents.scheduler import branch_key
from projects.models import Module, Plan


@dataclass(frozen=True)
class Figures:
    """Seconds and tokens of a plan from approval to done; tokens are None while none are known."""

    modules: int
    merged: int
    wall_seconds: float
    sequential_seconds: float
    bound_seconds: float
    tokens: int | None
    parallel_only_tokens: int

    @property
    def speed_up(self) -> float:
        return self.sequential_seconds / self.wall_seconds if self.wall_seconds else 1.0

    def line(self) -> str:
        return (
            f"{self.merged} of {self.modules} modules merged in {self.wall_seconds:.1f} s, "
            f"sequential {self.sequential_seconds:.1f} s, bound {self.bound_seconds:.1f} s, "
            f"speed-up {self.speed_up:.2f}"
        )


def run_rows(plan: Plan) -> list[Run]:
    return list(Run.objects.filter(plan=plan).select_related("module").order_by("queued_at", "pk"))


def figures(plan: Plan) -> Figures:
    """The figures of a plan as far as it has come."""
    runs = run_rows(plan)
    modules = Module.objects.filter(project_id=plan.project_id).exclude(status="draft")
    began = plan.decided_at
    ended = plan.finished_at or max((run.ended_at for run in runs if run.ended_at), default=began)
    wall = (ended - began).total_seconds() if began and ended else 0.0
    known = [run for run in runs if run.input_tokens is not None]
    tokens = [(run.input_tokens or 0) + (run.output_tokens or 0) for run in known]
    return Figures(
        modules=modules.exclude(status="cancelled").count(),
        merged=modules.filter(status="merged").count(),
        wall_seconds=wall,
        sequential_seconds=sum(run.agent_seconds + run.gate_seconds for run in runs),
        bound_seconds=bound(plan, runs),
        tokens=sum(tokens) if known else None,
        parallel_only_tokens=sum(
            (run.input_tokens or 0) + (run.output_tokens or 0) for run in known if run.parallel_only
        ),
    )


def bound(plan: Plan, runs: list[Run]) -> float:
    """No schedule is shorter: economics.lower_bound for the modules, and the plan's own runs.

    The skeleton comes before every module and the checks at the end after all of them.
    """
    own = sum(run.gate_seconds for run in runs if run.module is None)
    measured = [
        economics.Measured(
            module=run.module.slug,
            kind=run.kind,
            agent_seconds=run.agent_seconds,
            gate_seconds=run.gate_seconds,
            lane=run.module.lane,
            branch=branch_key(run.module),
        )
        for run in runs
        if run.module
    ]
    return own + economics.lower_bound(measured, after=_after(plan), ceiling=plan.project.ceiling)


def _after(plan: Plan) -> dict[str, set[str]]:
    """Module to the modules that had to be merged before it could start or finish."""
    found: dict[str, set[str]] = {}
    for module in Module.objects.filter(project_id=plan.project_id).select_related("contract"):
        if module.contract is None:
            continue
        needs = module.contract.needs.exclude(gates="").select_related("needs")
        found[module.slug] = {need.needs.slug for need in needs if need.gates == "start"}
    return found


def as_json(plan: Plan) -> dict[str, Any]:
    """Runs with start, end, role, module and tokens, and the totals."""
    total = figures(plan)
    return {
        "project": plan.project.slug,
        "plan": plan.number,
        "ceiling": plan.project.ceiling,
        "runs": [
            {
                "id": run.pk,
                "module": run.module.slug if run.module else None,
                "kind": run.kind,
                "role": run.role or None,
                "model": run.model or None,
                "status": run.status,
                "start": run.started_at.isoformat() if run.started_at else None,
                "end": run.ended_at.isoformat() if run.ended_at else None,
                "agent_seconds": round(run.agent_seconds, 3),
                "gate_seconds": round(run.gate_seconds, 3),
                "input_tokens": run.input_tokens,
                "output_tokens": run.output_tokens,
                "parallel_only": run.parallel_only,
            }
            for run in run_rows(plan)
        ],
        "totals": {
            "modules": total.modules,
            "merged": total.merged,
            "wall_seconds": round(total.wall_seconds, 3),
            "sequential_seconds": round(total.sequential_seconds, 3),
            "bound_seconds": round(total.bound_seconds, 3),
            "speed_up": round(total.speed_up, 3),
            "tokens": total.tokens,
            "parallel_only_tokens": total.parallel_only_tokens,
        },
        "summary": total.line(),
    }
