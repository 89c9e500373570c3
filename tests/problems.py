"""The table of problems: networks whose limit kernels are known to about 1e-15.

Every difficulty of THEORY §5 has its rows: constant, step, smooth, diagonal kinks and jumps, breaks that
travel, kinked input layers, algebraic ends, dead positions, general kink curves. The references in
``data/problems.npz`` are written by ``tools/make_problem_references.py``, by brute force with hand-declared
edges; nothing there knows the package. A problem says only what the network is, never where its breaks are:
finding them is the engine's job.
"""

from __future__ import annotations

from tests.problem_parts import BlackBox, Layer, Problem, Step

# Threshold of the saliency law (THEORY §2): r(u) = (u + 1/4)^-1/2, c(v) = (v + 1/2)^-1/2, tau = 1.
_LAW = "sqrt((u + 0.25)*(v + 0.5))"
SALIENCY = Layer(
    f"1 - erf({_LAW}/sqrt(2))", f"1 - erf({_LAW}/sqrt(2)) + sqrt(2/pi)*{_LAW}*exp(-(u + 0.25)*(v + 0.5)/2)"
)

PROBLEMS: tuple[Problem, ...] = (
    # constant and step: exact
    Problem("constant", "p^L times the dense kernel", (0.5, 0.25, 0.75)),
    Problem("magnitude", "V != W constant", (Layer(0.2, 0.65),) * 3, bias_variance=0.1),
    Problem(
        "step_equal",
        "equal blocks, asymmetric",
        (
            1.0,
            Step(((0.9, 0.1), (0.3, 0.6))),
            Step(((0.2, 0.8), (0.7, 0.4))),
            Step(((0.3, 0.9),)),
        ),
        bias_variance=0.1,
    ),
    Problem(
        "step_unequal",
        "blocks that differ on the two sides of every layer",
        (
            Step(((0.9, 0.2), (0.4, 0.7)), (0, 0.3, 1), (0, 0.5, 1)),
            Step(((0.9, 0.1), (0.3, 0.6), (0.5, 1.0)), (0, 0.25, 0.6, 1), (0, 0.5, 1)),
            Step(((0.2, 0.8), (0.7, 0.4)), (0, 0.7, 1), (0, 0.35, 1)),
            Step(((0.3, 0.9, 0.5),), None, (0, 0.1, 0.9, 1)),
        ),
    ),
    Problem(
        "step_variance",
        "V != W with blocks of its own, bias",
        (
            Layer(Step(((0.6,), (0.9,)), (0, 0.4, 1)), Step(((0.8,), (1.2,), (1.0,)), (0, 0.3, 0.5, 1))),
            Layer(
                Step(((0.9, 0.1), (0.3, 0.6)), (0, 0.2, 1), (0, 0.6, 1)),
                Step(((1.5, 0.4), (0.7, 1.1)), (0, 0.2, 1), (0, 0.8, 1)),
            ),
            0.5,
        ),
        bias_variance=0.25,
    ),
    Problem(
        "step_input_cells",
        "input blocks that end inside an atom",
        (
            Step(((0.9, 0.2), (0.4, 0.7)), (0, 0.45, 1), (0, 0.3, 1)),
            Step(((0.9, 0.3),), None, (0, 0.45, 1)),
            1.0,
        ),
        activation="erf",
        bias_variance=0.05,
    ),
    Problem(
        "dead_block",
        "positions without input, a column without output",
        (
            Step(((0.9, 0.2), (0.4, 0.7)), (0, 0.3, 1)),
            Step(((0.0, 0.0), (0.6, 0.3)), (0, 0.25, 1)),
            Step(((0.5, 0.9, 0.0), (0.0, 0.7, 0.0)), (0, 0.5, 1), (0, 0.25, 0.75, 1)),
            1.0,
        ),
    ),
    # smooth
    Problem("separable_relu", "scalar reduction", (1.0, "u*v", "exp(-u - v)", 1.0)),
    Problem(
        "separable_erf",
        "separable, no reduction",
        (1.0, "(0.25 + 0.75*u)*exp(-v)", "cos(u)*(1 - 0.5*v**2)", 1.0),
        activation="erf",
        bias_variance=0.05,
    ),
    Problem("smooth", "the smooth band", ("0.5 + 0.5*u*v", "exp(-3*(u - v)**2)", "exp(-3*(u - v)**2)", 1.0)),
    Problem(
        "smooth_asymmetric",
        "sides must not be swapped",
        ("exp(-u - 2*v)", "1/(1 + u + 3*v**2)", "exp(-2*u*v)", "0.25 + 0.75*v"),
        bias_variance=0.1,
    ),
    Problem("saliency_law", "factorised saliency, V != W", (1.0, SALIENCY, SALIENCY, 1.0), bias_variance=0.01),
    Problem(
        "layer_variances",
        "one weight variance a layer",
        ("0.5 + 0.5*u*v", "exp(-3*(u - v)**2)", "exp(-u - v)", 1.0),
        weight_variance=(1.5, 2.25, 0.75, 1.25),
        bias_variance=0.1,
    ),
    Problem(
        "close_inputs",
        "nearly coincident and nearly opposite inputs",
        ("0.5 + 0.5*u*v", "exp(-3*(u - v)**2)", 1.0),
        inputs="close",
    ),
    # diagonal kinks and jumps
    Problem("minimum", "kink on the diagonal", (1.0, "Min(u, v)", "Min(u, v)", 1.0), bias_variance=0.1),
    Problem(
        "minimum_identity",
        "a polynomial in closed form",
        (1.0, "Min(u, v)", "Min(u, v)", 1.0),
        activation="identity",
        bias_variance=0.25,
    ),
    Problem("distance", "|u - v|", ("0.5 + 0.5*u*v", "Abs(u - v)", "Abs(u - v)", 1.0)),
    Problem(
        "heaviside",
        "jump on the diagonal",
        (1.0, "Heaviside(u - v)", "Heaviside(u - v)", 1.0),
        bias_variance=0.1,
    ),
    Problem(
        "heaviside_up",
        "jump on the diagonal, no bias",
        ("0.5 + 0.5*u*v", "Heaviside(v - u)", "Heaviside(u - v)", 1.0),
    ),
    Problem(
        "piecewise",
        "two expressions that meet on the diagonal",
        ("exp(-u*v)", "Piecewise((0.9 - 0.5*v, u < v), (0.25*u + 0.1, True))", "exp(-2*Abs(u - v))", 1.0),
        bias_variance=0.05,
    ),
    Problem(
        "variance_kink",
        "V != W, asymmetric, kinked, with bias",
        (
            1.0,
            Layer("exp(-u - 2*v)", "exp(-u - 2*v)*(1 + v)"),
            Layer("Min(u, v)", "Min(u, v)*(0.5 + u)"),
            Layer(0.5, 0.75),
        ),
        bias_variance=0.1,
    ),
    Problem(
        "erf_bias_kink",
        "erf with bias under two kinks",
        ("0.5 + 0.5*u*v", "Min(u, v)", "Abs(u - v)", 1.0),
        activation="erf",
        bias_variance=0.2,
    ),
    Problem(
        "identity_asymmetric",
        "identity, jump, bias",
        ("exp(-u - 2*v)", "Heaviside(u - v)", "exp(-u - 2*v)", 1.0),
        activation="identity",
        weight_variance=1.5,
        bias_variance=0.1,
    ),
    # breaks that travel
    Problem(
        "kink_after_jump",
        "a jump at u = 3/8 travels through diagonal kinks",
        (1.0, "0.25 + 0.5*Heaviside(u - 0.375) + 0.25*v", "Min(u, v)", "Abs(u - v)", 1.0),
        bias_variance=0.1,
    ),
    Problem(
        "jump_travels_far",
        "an input break at 0.3 travels through three kinks, a readout break comes the other way",
        (
            Step(((0.9,), (0.3,)), (0, 0.3, 1)),
            "Heaviside(u - v)",
            "Abs(u - v)",
            "Heaviside(v - u)",
            Step(((0.2, 0.9),), None, (0, 0.6, 1)),
        ),
        bias_variance=0.05,
    ),
    Problem(
        "step_between_kinks",
        "break of a step layer's columns under a kink",
        (
            "0.5 + 0.5*u*v",
            "Min(u, v)",
            Step(((0.9, 0.1), (0.3, 0.6)), (0, 0.2, 1), (0, 0.55, 1)),
            "Heaviside(u - v)",
            1.0,
        ),
        bias_variance=0.1,
    ),
    # dead positions that are not blocks
    Problem(
        "dead_corner",
        "W = 0 on a rectangle, then positions without input under a shifted kink",
        ("0.5 + 0.5*u*v", "1 - Heaviside(0.5 - u)*Heaviside(0.25 - v)", "Max(u - v - 0.25, 0)", 1.0),
    ),
    Problem(
        "dead_corner_erf",
        "the same with erf and bias",
        ("0.5 + 0.5*u*v", "1 - Heaviside(0.5 - u)*Heaviside(0.25 - v)", "Max(u - v - 0.25, 0)", 1.0),
        activation="erf",
        bias_variance=0.1,
    ),
    Problem(
        "dead_edge",
        "variance reaches 0 at an edge and stays there",
        ("exp(-u*v)", "Max(u - 0.25, 0)*v", "Min(u, v)", 1.0),
        activation="erf",
    ),
    Problem(
        "dead_readout",
        "a readout that ignores most positions",
        ("0.5 + 0.5*u*v", "Min(u, v)", "Heaviside(v - 0.625)"),
        bias_variance=0.1,
    ),
    # input layers
    Problem("smooth_input_under_kink", "structured input", ("exp(-4*(u - v)**2)", "Min(u, v)", 1.0)),
    Problem("kinked_input_minimum", "every j/d is an edge", ("Min(u, v)", "exp(-3*(u - v)**2)", 1.0)),
    Problem(
        "kinked_input_distance",
        "every j/d is an edge, and travels",
        ("Abs(u - v)", "Abs(u - v)", "0.5 + 0.5*u*v", 1.0),
        inputs="three",
        bias_variance=0.1,
    ),
    Problem(
        "rank_transition",
        "Heaviside input: |rho| leaves 1 like sqrt(u - 1/d)",
        ("Heaviside(u - v)", "exp(-(u - v)**2)", 1.0),
        inputs="staggered",
    ),
    Problem(
        "rank_transition_deep",
        "and travels through a jump and a kink",
        ("Heaviside(u - v)", "Heaviside(u - v)", "Min(u, v)", 1.0),
        inputs="staggered",
    ),
    Problem(
        "rank_transition_erf",
        "Heaviside input with erf",
        ("Heaviside(u - v)", "Abs(u - v)", 1.0),
        inputs="staggered",
        activation="erf",
    ),
    Problem("one_input", "d = 1, every |rho| is 1", ("Min(u, v)", "exp(-u - 2*v)", 1.0), inputs="one"),
    Problem(
        "one_input_bias",
        "d = 1 with bias",
        ("0.5 + 0.5*u", "Min(u, v)", 1.0),
        inputs="one",
        bias_variance=0.25,
    ),
    # first layer = last layer, many layers, many outputs
    Problem("one_layer", "input atoms meet the output", ("Abs(u - v)",), bias_variance=0.1),
    Problem("one_layer_outputs", "three output atoms over four inputs", ("Heaviside(u - v)",), outputs=3),
    Problem(
        "deep",
        "six weight layers",
        (
            1.0,
            "exp(-3*(u - v)**2)",
            "0.25 + 0.75*Min(u, v)",
            "1/(1 + u + 3*v**2)",
            "0.3 + 0.6*Heaviside(v - u)",
            "0.25 + 0.75*v",
        ),
        bias_variance=0.05,
    ),
    Problem(
        "three_outputs",
        "readout rows kinked inside the last hidden layer",
        ("0.5 + 0.5*u*v", "exp(-u - 2*v)", "exp(-2*Abs(u - v))"),
        bias_variance=0.1,
        outputs=3,
    ),
    Problem(
        "two_outputs_kinked",
        "readout cells cut a layer that is itself kinked",
        ("0.5 + 0.5*u*v", "Abs(u - v)", "Min(u, v)"),
        outputs=2,
    ),
    Problem(
        "standard_parameterization",
        "fan-ins and biases",
        ("0.5 + 0.5*u*v", "exp(-3*(u - v)**2)", "Min(u, v)", 1.0),
        weight_variance=(1.5, 2.0, 2.0, 1.0),
        bias_variance=0.1,
        parameterization="standard",
        widths=(4, 128, 256, 64),
    ),
    Problem(
        "standard_no_bias",
        "no bias parameters at all, V != W, three outputs",
        (1.0, Layer("exp(-u - 2*v)", "exp(-u - 2*v)*(1 + v)"), "0.25 + 0.5*u + 0.25*v"),
        parameterization="standard",
        widths=(4, 64, 128),
        outputs=3,
    ),
    # algebraic ends and general kink curves
    Problem("sqrt_singular", "square roots at 0", (1.0, "sqrt(u*v)", "sqrt(u*v)", 1.0), bias_variance=0.1),
    Problem(
        "kink_parabola",
        "a jump on v = u^2",
        ("0.5 + 0.5*u*v", "Heaviside(v - u**2)", "Heaviside(v - u**2)", 1.0),
        bias_variance=0.1,
    ),
    Problem(
        "kink_antidiagonal",
        "a kink on v = 1 - u, after a jump",
        (1.0, "0.25 + 0.5*Heaviside(u - 0.375) + 0.25*v", "Abs(u + v - 1)", "Min(u, v)", 1.0),
        bias_variance=0.1,
    ),
    Problem(
        "circle_arc",
        "a jump on a circle: the curve itself has an algebraic end",
        ("0.5 + 0.5*u*v", "Heaviside(1 - u**2 - v**2)", "Heaviside(1 - u**2 - v**2)", 1.0),
        bias_variance=0.1,
    ),
)

# Callables that do not say where they break: a right answer within its estimate is owed, or a refusal.
BLACK_BOXES: tuple[Problem, ...] = (
    Problem(
        "box_oscillating",
        "sixty-four periods along the far edges",
        ("0.5 + 0.5*u*v", BlackBox("sin(200*u*v)**2"), 1.0),
        bias_variance=0.1,
    ),
    Problem(
        "box_arc",
        "a jump on a circle",
        ("0.5 + 0.5*u*v", BlackBox("Heaviside(1 - u**2 - v**2)"), 1.0),
        bias_variance=0.1,
    ),
    Problem(
        "box_capped",
        "an inverse root of |u - v|, capped: kinks on two lines beside the diagonal",
        ("0.5 + 0.5*u*v", BlackBox("0.25/sqrt(Max(Abs(u - v), 0.0625))"), 1.0),
        bias_variance=0.1,
    ),
    Problem(
        "box_diagonal",
        "a kink on the diagonal, declared",
        ("0.5 + 0.5*u*v", BlackBox("Min(u, v)", diagonal=True), 1.0),
        bias_variance=0.1,
    ),
    Problem(
        "box_edges",
        "a jump across the square, declared",
        (
            "0.5 + 0.5*u*v",
            BlackBox("0.25 + 0.5*Heaviside(u - 0.375)*Heaviside(v - 0.75)", (0, 0.375, 1), (0, 0.75, 1)),
            1.0,
        ),
        bias_variance=0.1,
    ),
)

BY_NAME: dict[str, Problem] = {problem.name: problem for problem in (*PROBLEMS, *BLACK_BOXES)}
SLOW = {"sqrt_singular", "circle_arc", "box_arc", "box_oscillating"}  # 10 to 40 seconds each
