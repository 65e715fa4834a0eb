"""eBPF instructions for the tree of an expression."""

from pwru.ebpf import R0, R1, R6, R7, R8, R10, Alu, Assembler, Jump, Label, Reg, Size
from pwru.filter.load import RdonlyCast, address_register, cast_offset, load

from .tree import Comparison, CType, FieldLoad, Logical, Node, Not, Number, Operand

_INVERSE = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}
_MIRROR = {"==": "==", "!=": "!=", "<": ">", ">": "<", "<=": ">=", ">=": "<="}
_UNSIGNED = {"==": Jump.EQ, "!=": Jump.NE, "<": Jump.LT, "<=": Jump.LE, ">": Jump.GT, ">=": Jump.GE}
_SIGNED = {"==": Jump.EQ, "!=": Jump.NE, "<": Jump.SLT, "<=": Jump.SLE, ">": Jump.SGT, ">=": Jump.SGE}

# Registers that calls preserve. _OTHER is in use during a single operation only.
_ROOT, _VALUE, _OTHER = R6, R7, R8


class Code:
    """The body of a function that takes the address of the root; one of the two methods completes it."""

    def __init__(self, cast: RdonlyCast | None) -> None:
        self._cast = cast
        self._asm = Assembler()
        self._asm.alu64(Alu.MOV, _ROOT, R1)

    def condition(self, node: Node) -> bytes:
        """Return 1 if the condition is true, else 0."""
        asm, no = self._asm, Label()
        self._branch(node, False, no)
        asm.alu64(Alu.MOV, R0, 1)
        asm.exit()
        asm.place(no)
        asm.alu64(Alu.MOV, R0, 0)
        asm.exit()
        return asm.code()

    def value(self, field: FieldLoad) -> bytes:
        self._evaluate(field)
        self._asm.alu64(Alu.MOV, R0, _VALUE)
        self._asm.exit()
        return self._asm.code()

    def _branch(self, node: Node, wanted: bool, target: Label) -> None:
        """Jump to `target` if the condition is as wanted, else go on."""
        if isinstance(node, Not):
            self._branch(node.operand, not wanted, target)
        elif isinstance(node, Logical):
            # The first operand that differs from `all` decides.
            decided = target if wanted != node.all else Label()
            for operand in node.operands[:-1]:
                self._branch(operand, not node.all, decided)
            self._branch(node.operands[-1], wanted, target)
            if decided is not target:
                self._asm.place(decided)
        elif isinstance(node, Comparison):
            self._compare(node, wanted, target)
        else:
            self._evaluate(node)
            self._asm.jump64(Jump.NE if wanted else Jump.EQ, _VALUE, 0, target)

    def _compare(self, node: Comparison, wanted: bool, target: Label) -> None:
        operator, left, right = node
        if isinstance(left, Number):
            operator, left, right = _MIRROR[operator], right, left
        if not wanted:
            operator = _INVERSE[operator]
        common = left.type.common(right.type)
        self._evaluate(left)
        other = self._right_operand(left.type, right, common, 0)
        self._asm.jump64((_SIGNED if common.signed else _UNSIGNED)[operator], _VALUE, other, target)

    def _evaluate(self, node: Operand, depth: int = 0) -> None:
        """Put the operand into _VALUE, extended to 64 bits; `depth` words of the stack are in use."""
        if isinstance(node, Number):
            self._asm.constant(_VALUE, node.value)
        elif isinstance(node, FieldLoad):
            self._load(node)
        else:
            first, *others = node.operands
            self._evaluate(first, depth)
            ctype = first.type.promoted()
            for operand in others:
                common = ctype.common(operand.type)
                self._asm.alu64(Alu.AND, _VALUE, self._right_operand(ctype, operand, common, depth))
                ctype = common

    def _right_operand(self, left: CType, right: Operand, common: CType, depth: int) -> int:
        """Convert _VALUE and `right` to `common`; return `right` as an immediate if it fits, else _OTHER."""
        asm = self._asm
        if isinstance(right, Number):
            self._convert(_VALUE, left, common)
            value = common.wrap(right.value)
            if -0x80000000 <= value <= 0x7FFFFFFF:  # an immediate is sign-extended
                return value
            asm.constant(_OTHER, value)
        else:
            slot = -16 - 8 * depth
            asm.store(Size.DW, R10, slot, _VALUE)
            self._evaluate(right, depth + 1)
            asm.alu64(Alu.MOV, _OTHER, _VALUE)
            asm.load(Size.DW, _VALUE, R10, slot)
            self._convert(_VALUE, left, common)
            self._convert(_OTHER, right.type, common)
        return _OTHER

    def _convert(self, register: Reg, ctype: CType, common: CType) -> None:
        """Convert a value. All are extended to 64 bits, so only a negative int that becomes unsigned changes."""
        if common == (32, False) and ctype.promoted().signed:
            self._asm.alu32(Alu.MOV, register, register)

    def _load(self, field: FieldLoad) -> None:
        asm, address = self._asm, address_register(self._cast)
        base = _ROOT
        for offset, size in [*((pointer, Size.DW) for pointer in field.pointers), (field.offset, field.size)]:
            asm.alu64(Alu.MOV, address, base)
            asm.alu64(Alu.ADD, address, offset - cast_offset(self._cast))
            load(asm, self._cast, size, _VALUE)
            base = _VALUE
        above = 64 - field.shift - field.type.bits
        below = 64 - field.type.bits
        if field.type.bits < 8 * field.size.nbytes or (field.type.signed and below):
            asm.alu64(Alu.LSH, _VALUE, above)
            asm.alu64(Alu.ARSH if field.type.signed else Alu.RSH, _VALUE, below)
