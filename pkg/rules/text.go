package rules

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/auditfleet/auditfleet/pkg/tables"
)

// TextOptions says how to write a listing. The zero value writes that of auditctl -l.
type TextOptions struct {
	// Interpret writes words in place of numbers, as auditctl -l -i does: machine names,
	// "unset", and the results of Argument. The text is for people; it may not load.
	Interpret bool
	// Argument words the value of the system call argument a0 … a3 under
	// Interpret; nil or "" leaves the number.
	Argument func(arch uint32, syscall int, arg int, value uint32) string
}

// Text returns the rule as a line of a rule file. It uses auditctl's own form if that
// form, parsed under env, gives the same rule again, and otherwise a form of this package
// that does.
func (r *Rule) Text(env Env, o TextOptions) string {
	if o.Interpret {
		return JoinLine(r.interpreted(env, o))
	}
	return JoinLine(r.TextArgs(env))
}

// TextArgs returns the words of the line that Text returns.
func (r *Rule) TextArgs(env Env) []string {
	if r.IsWatch() {
		if args := r.watchArgs(); r.loads(args, env) {
			return args
		}
	}
	for _, how := range [...]order{archFirst, inOrder} {
		if args := r.ruleArgs(env, how); r.loads(args, env) {
			return args
		}
	}
	return r.ruleArgs(env, numbers)
}

// loads reports whether a command line adds exactly this rule, also when it went
// through a line of a file.
func (r *Rule) loads(args []string, env Env) bool {
	for i, a := range args {
		if i > 0 && args[i-1] != "-F" && hasControl(a) {
			return false // such bytes are escaped after -F only
		}
	}
	if !slices.Equal(Args(SplitLine(JoinLine(args))), args) {
		return false
	}
	c, err := ParseArgs(args, env)
	return err == nil && !c.Deprecated && len(c.Ops) == 1 && c.Ops[0].Kind == OpAdd && c.Ops[0].Rule.Equal(r)
}

// watchArgs is the form of a watch: path, permissions and keys in the rule's
// order.
func (r *Rule) watchArgs() []string {
	var args []string
	for _, f := range r.Fields {
		switch f.ID {
		case FieldPath, FieldDir:
			args = append(args, "-w", f.Str)
		case FieldPerm:
			args = append(args, "-p", permText(f.Value))
		case FieldKey:
			for _, k := range splitKeys(f.Str) {
				args = append(args, "-k", k)
			}
		}
	}
	return args
}

type order int

const (
	archFirst order = iota // auditctl's: list, arch, system calls, the other fields
	inOrder                // fields in the rule's order, by number where a name reads as another field
	numbers                // all fields and system calls by number: loads whatever it is
)

func (r *Rule) ruleArgs(env Env, how order) []string {
	args := []string{"-a", r.Action.String() + "," + r.List.String()}
	fields, arch, split := slices.Clone(r.Fields), env.Arch, 0
	isArch := func(f Field) bool { return f.ID == FieldArch && exactField(f, r.List, env) }
	if how == archFirst {
		slices.SortStableFunc(fields, func(a, b Field) int { return archRank(a) - archRank(b) })
	}
	for i, f := range fields {
		if how != numbers && isArch(f) {
			arch, split = f.Value, i+1
		}
	}
	add := func(f Field) {
		switch how {
		case archFirst:
			args = append(args, fieldTokens(f, env)...)
		case inOrder:
			args = append(args, exactTokens(f, r.List, env, slices.Index(r.Fields, f) == len(r.Fields)-1)...)
		default:
			args = append(args, "-F", rawFieldText(f))
		}
	}
	for _, f := range fields[:split] {
		add(f)
	}
	args = append(args, r.syscallTokens(arch, how)...)
	for _, f := range fields[split:] {
		add(f)
	}
	return args
}

func archRank(f Field) int {
	if f.ID == FieldArch {
		return 0
	}
	return 1
}

// syscallTokens writes -S where the list takes it, or where the mask is not what
// the list has without it.
func (r *Rule) syscallTokens(arch uint32, how order) []string {
	name := func(n int) (string, bool) { return tables.SyscallName(arch, n) }
	switch r.List {
	case ListIOUring:
		name = func(n int) (string, bool) { s := nameOf(ioUringOps, uint32(n)); return s, s != "" }
	case ListExit:
	case ListTask:
		if r.Mask == (Mask{}) {
			return nil
		}
		return []string{"-S", rawMaskText(&r.Mask)}
	default:
		if r.Mask.All() {
			return nil
		}
		return []string{"-S", rawMaskText(&r.Mask)}
	}
	if r.Mask.All() {
		return []string{"-S", "all"}
	}
	nums := r.Mask.Numbers()
	if len(nums) == 0 {
		return []string{"-S", "@none"}
	}
	list := make([]string, len(nums))
	for i, n := range nums {
		list[i] = strconv.Itoa(n)
		if s, ok := name(n); ok && how != numbers && (r.List == ListIOUring || resolves(arch, s, n)) {
			list[i] = s
		}
	}
	return []string{"-S", strings.Join(list, ",")}
}

func resolves(arch uint32, name string, n int) bool {
	back, ok := tables.SyscallByName(arch, name)
	return ok && back == n
}

func rawMaskText(m *Mask) string {
	nums := m.Numbers()
	if len(nums) == 0 {
		return "@none"
	}
	var parts []string
	for i := 0; i < len(nums); {
		j := i
		for j+1 < len(nums) && nums[j+1] == nums[j]+1 {
			j++
		}
		part := strconv.Itoa(nums[i])
		if j > i {
			part += "-" + strconv.Itoa(nums[j])
		}
		parts = append(parts, part)
		i = j + 1
	}
	return "@" + strings.Join(parts, ",")
}

// fieldTokens writes a field by its name. It need not load again: Text tries.
func fieldTokens(f Field, env Env) []string {
	if f.ID == FieldCompare && f.Value > 0 && f.Value < uint32(len(comparisons)) && (f.Op == Equal || f.Op == NotEqual) {
		c := comparisons[f.Value]
		return []string{"-C", c.a.String() + f.Op.String() + c.b.String()}
	}
	if f.ID == FieldKey && f.Op == Equal {
		var tokens []string
		for _, k := range splitKeys(f.Str) {
			tokens = append(tokens, "-F", "key="+k)
		}
		return tokens
	}
	return []string{"-F", f.ID.String() + f.Op.String() + f.valueText(env)}
}

// valueText writes a field's value so that the grammar reads the same number.
func (f Field) valueText(env Env) string {
	unsigned, signed := strconv.FormatUint(uint64(f.Value), 10), strconv.Itoa(int(int32(f.Value)))
	switch {
	case f.ID.IsString():
		return f.Str
	case isUser(f.ID):
		return signed
	case f.ID >= FieldA0 && f.ID <= FieldA3:
		return fmt.Sprintf("0x%X", f.Value)
	}
	switch f.ID {
	case FieldSessionID:
		return signed
	case FieldArch:
		return archText(f.Value, env)
	case FieldMsgType:
		if f.Value > 0 && f.Value < 1<<16 {
			if name := tables.TypeName(uint16(f.Value)); !strings.HasPrefix(name, "UNKNOWN") {
				return name
			}
		}
	case FieldPerm:
		return permText(f.Value)
	case FieldFileType:
		if name := nameOf(fileTypes, f.Value); name != "" {
			return name
		}
	case FieldFSType:
		if name := nameOf(fsTypes, f.Value); name != "" {
			return name
		}
	case FieldExit:
		if v := int32(f.Value); v < 0 {
			if name, ok := tables.ErrnoName(-int(v)); ok {
				return "-" + name
			}
			return signed
		}
	}
	return unsigned
}

// archText writes b64 and b32 for this machine's two sides and the name for
// another machine's: auditctl lists any as b64 or b32, which loads this one's.
func archText(arch uint32, env Env) string {
	if other, ok := tables.Arch32(env.Arch); arch == env.Arch || ok && arch == other {
		if arch&tables.Arch64Bit != 0 {
			return "b64"
		}
		return "b32"
	}
	if name, ok := tables.ArchName(arch); ok {
		return name
	}
	return fmt.Sprintf("0x%X", arch)
}

// exactField reports whether the field's name form reads as the field again on
// that list, when nothing else is in the way.
func exactField(f Field, list List, env Env) bool {
	p := &parser{env: env, add: list, syscalls: f.ID != FieldArch, del: listUnset}
	tokens := fieldTokens(f, env)
	if len(tokens) != 2 || f.ID == FieldKey && f.Op == Equal {
		return false
	}
	w := word{s: tokens[1]}
	var err error
	if tokens[0] == "-C" {
		err = p.compare(w)
	} else {
		err = p.fieldOption(w)
	}
	return err == nil && len(p.rule.Fields) == 1 && p.rule.Fields[0] == f
}

// exactTokens writes a field so that it reads as the same: by name, or by number.
func exactTokens(f Field, list List, env Env, last bool) []string {
	if f.ID == FieldKey && f.Op == Equal && last && f.Str != "" && strings.Join(splitKeys(f.Str), keySeparator) == f.Str {
		return fieldTokens(f, env)
	}
	if exactField(f, list, env) {
		return fieldTokens(f, env)
	}
	if f.ID == FieldCompare {
		named := Field{ID: f.ID, Op: f.Op, Value: f.Value}
		p := &parser{env: env, add: list, del: listUnset}
		token := "field_compare" + f.Op.String() + strconv.FormatUint(uint64(f.Value), 10)
		if p.fieldOption(word{s: token}) == nil && len(p.rule.Fields) == 1 && p.rule.Fields[0] == named {
			return []string{"-F", token}
		}
	}
	return []string{"-F", rawFieldText(f)}
}

func rawFieldText(f Field) string {
	value := f.Str
	if !f.ID.IsString() {
		value = strconv.FormatUint(uint64(f.Value), 10)
	}
	text := "f" + strconv.FormatUint(uint64(f.ID), 10)
	if back, _ := rawField(text + f.Op.String() + value); back.Op != f.Op {
		return fmt.Sprintf("%s@%x=%s", text, uint32(f.Op), value)
	}
	return text + f.Op.String() + value
}

// interpreted writes the listing for people.
func (r *Rule) interpreted(env Env, o TextOptions) []string {
	args := r.TextArgs(env)
	nums := r.Mask.Numbers()
	arch := uint32(0) // auditctl words no argument of a rule that names none
	for i, f := range args {
		name, op, value, ok := cutField(f)
		if i == 0 || args[i-1] != "-F" || !ok {
			continue
		}
		id, _ := numberOf(fieldNames, name)
		switch {
		case id == FieldArch:
			if n, known := (&parser{env: env}).archNumber(value); known {
				arch = n
				if full, ok := tables.ArchName(n); ok {
					args[i] = name + op.String() + full
				}
			}
		case (id == FieldAUID || id == FieldSessionID) && value == "-1":
			args[i] = name + op.String() + "unset"
		case id >= FieldA0 && id <= FieldA3 && len(nums) == 1 && startsDigit(value):
			v := parseNumber(value).value
			s := fmt.Sprintf("0x%x", v) // auditctl's, where it has no word
			if o.Argument != nil && arch != 0 {
				if word := o.Argument(arch, nums[0], int(id-FieldA0), v); word != "" {
					s = word
				}
			}
			args[i] = name + op.String() + s
		}
	}
	return args
}
