"""A run in time and money, for the tests of forecast and budget: noise, drift, warm-up, saving, failures, resizes."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

LOG_EVERY = 10


@dataclass(frozen=True)
class Look:
    """What the forecaster is told at a logged step."""

    step: int
    cost_usd: float
    usd_per_second: float
    life: int
    workers: int


@dataclass(frozen=True)
class Plan:
    """What happens to a run, and when."""

    steps: int = 2000
    seed: int = 0
    noise: float = 0.15  # of a step's time; neighbours resemble each other
    drift: float = 0.0  # of a step's time, from the first step to the last
    warm_up_steps: int = 20  # these take three times as long
    start_up_seconds: float = 40.0
    validate_every: int = 150
    validate_seconds: float = 8.0
    save_every: int = 50
    save_seconds: float = 1.0
    failures: tuple[int, ...] = ()  # steps before which the group fails
    resizes: tuple[tuple[int, int, float], ...] = ()  # (step, workers, seconds of a step from there on)
    prices: tuple[tuple[int, float], ...] = ()  # (step, dollars of a worker's second from there on)


def random_plan(seed: int, failures: int = 0, resizes: int = 0, noise: float = 0.2) -> Plan:
    """failures: at most so many.  resizes: so many.  noise: of a step at most."""
    of = random.Random(seed)
    steps, workers = 2000, 2
    changes = []
    for step in sorted(of.sample(range(50, steps), resizes)):
        workers = of.choice([each for each in (1, 2, 3, 4) if each != workers])
        changes.append((step, workers, 2.0 / workers * of.uniform(0.92, 1.08)))
    return Plan(
        steps=steps,
        seed=seed,
        noise=of.uniform(0.02, noise),
        drift=of.uniform(-0.1, 0.1),
        warm_up_steps=of.randrange(0, 40),
        start_up_seconds=of.uniform(5, 40),
        validate_every=of.choice((50, 100, 200, 400)),
        validate_seconds=of.uniform(1, 10),
        save_every=of.choice((20, 50, 100)),
        save_seconds=of.uniform(0.1, 1.5),
        failures=tuple(sorted(of.sample(range(50, steps), of.randint(0, failures)))),
        resizes=tuple(changes),
    )


def looks_of(plan: Plan) -> Iterator[Look]:
    """What is logged, to the run's last step."""
    of = random.Random(plan.seed)
    workers, price, step_seconds = 2, 0.01, 1.0
    failures, resizes, prices = list(plan.failures), list(plan.resizes), list(plan.prices)
    cost, life, step, saved, wander = workers * price * plan.start_up_seconds, 0, 0, 0, 0.0
    while step < plan.steps:
        if failures and step >= failures[0]:
            failures.pop(0)
            life, step = life + 1, saved
            cost += workers * price * plan.start_up_seconds
        if resizes and step >= resizes[0][0]:
            _, workers, step_seconds = resizes.pop(0)
            life += 1
            cost += workers * price * plan.start_up_seconds
        if prices and step >= prices[0][0]:
            price = prices.pop(0)[1]
        wander = 0.8 * wander + 0.6 * of.gauss(0, plan.noise)
        slow = 3.0 if step < plan.warm_up_steps else 1.0
        seconds = step_seconds * slow * (1 + plan.drift * step / plan.steps) * max(0.2, 1 + wander)
        step += 1
        cost += workers * price * seconds
        if step % plan.validate_every == 0:
            cost += workers * price * plan.validate_seconds * step_seconds
        if step % LOG_EVERY == 0 or step == plan.steps:
            yield Look(step, cost, workers * price, life, workers)
        if step % plan.save_every == 0:
            saved = step
            cost += workers * price * plan.save_seconds
