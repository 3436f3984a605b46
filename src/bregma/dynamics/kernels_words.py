"""What compiled inference does with words: 64 bits, or 64 numbers at once.

The compiler turns vectors of 64 into as many registers as the machine needs, and comparing one into a word of bits.
"""

from typing import Any

from llvmlite import ir
from numba import types

from bregma.dynamics.kernels import SUBTRACT, SUBTRACT_DECAYED, ZERO, instruction

WORD = 64
_LONG = ir.IntType(64)
_BITS = ir.VectorType(ir.IntType(1), WORD)


def memory(context: Any, builder: Any, signature: Any, arguments: Any, *which: int) -> list[Any]:
    """Pointers to the items of the arguments ``which`` that are arrays."""
    return [context.make_array(signature.args[i])(context, builder, arguments[i]).data for i in which]


def load(builder: Any, pointer: Any, first: Any, lanes: int = WORD) -> tuple[Any, Any]:
    """``lanes`` items from ``first`` on as a vector, and where it came from."""
    item = pointer.type.pointee
    place = builder.bitcast(builder.gep(pointer, [first]), ir.VectorType(item, lanes).as_pointer())
    return builder.load(place, align=_bytes(item)), place


def store(builder: Any, value: Any, place: Any) -> None:
    """The inverse of `load`."""
    builder.store(value, place, align=_bytes(value.type.element))


def _bytes(item: Any) -> int:
    return item.width // 8 if isinstance(item, ir.IntType) else 4 if isinstance(item, ir.FloatType) else 8


def alike(builder: Any, value: Any, lanes: int = WORD) -> Any:
    """A vector of equal numbers."""
    vector = ir.VectorType(value.type, lanes)
    single = builder.insert_element(vector(ir.Undefined), value, ir.IntType(32)(0))
    return builder.shuffle_vector(single, vector(ir.Undefined), ir.VectorType(ir.IntType(32), lanes)(None))


def step(builder: Any, z: Any, current: Any, decay: Any, threshold: Any, reset: Any, strict: Any, fired: Any) -> Any:
    """One time step of 64 membranes, all vectors; ``fired`` is the word of their spikes one step before.

    Arithmetic is that of the table in `bregma.dynamics.lif`, operation by operation. What a reset does not do is done
    with zeros, which changes no number.

    Returns:
        The membranes and the word of their spikes.
    """
    zero, fired = z.type(None), builder.bitcast(fired, _BITS)

    def if_reset(code: int, value: Any, otherwise: Any) -> Any:
        return builder.select(builder.icmp_signed("==", reset, reset.type(code)), value, otherwise)

    before = if_reset(ZERO, zero, builder.fsub(z, if_reset(SUBTRACT_DECAYED, threshold, zero)))
    z = builder.fadd(builder.fmul(decay, builder.select(fired, before, z)), current)
    z = builder.select(fired, builder.fsub(z, if_reset(SUBTRACT, threshold, zero)), z)
    over = builder.fsub(z, threshold)
    words = [builder.bitcast(builder.fcmp_ordered(sign, over, zero), _LONG) for sign in (">", ">=")]
    return z, builder.select(strict, *words)


@instruction
def differ(typing_context: Any, row: Any, first: Any, number: Any) -> Any:
    """Bits of the 64 values of ``row`` from ``first`` on that are not ``number``, a constant."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        item = signature.args[0].dtype
        values, _ = load(builder, memory(context, builder, signature, arguments, 0)[0], arguments[1])
        compare = builder.fcmp_unordered if isinstance(item, types.Float) else builder.icmp_unsigned
        return builder.bitcast(compare("!=", values, alike(builder, arguments[2])), _LONG)

    return types.uint64(row, types.intp, row.dtype), generate


@instruction
def zeros_below(typing_context: Any, word: Any) -> Any:
    """How many bits below the lowest one set are zero; 64 for zero."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), generate


@instruction
def ones(typing_context: Any, word: Any) -> Any:
    """How many bits are set."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), generate


@instruction
def turn(typing_context: Any, words: Any, first: Any) -> Any:
    """Transpose 64 words of 64 bits in place, from ``first`` on: bit j of word i becomes bit i of word j."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        block, place = load(builder, memory(context, builder, signature, arguments, 0)[0], arguments[1])
        vector = block.type
        for size in (32, 16, 8, 4, 2, 1):  # quarters of the block change places, then those of the quarters, and so on
            low = sum(1 << k for k in range(WORD) if not k & size)
            partner = ir.VectorType(ir.IntType(32), WORD)([i ^ size for i in range(WORD)])
            other = builder.shuffle_vector(block, vector(ir.Undefined), partner)
            keep, high, shift = vector([low] * WORD), vector([low << size] * WORD), vector([size] * WORD)
            upper = builder.or_(builder.and_(block, keep), builder.shl(builder.and_(other, keep), shift))
            lower = builder.or_(builder.and_(block, high), builder.and_(builder.lshr(other, shift), keep))
            block = builder.select(_BITS([not i & size for i in range(WORD)]), upper, lower)
        store(builder, block, place)
        return context.get_dummy_value()

    return types.void(words, types.intp), generate
