package rules

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// ErrWire is returned for bytes that are not a valid struct audit_rule_data.
var ErrWire = errors.New("malformed audit rule")

// ErrRule is returned for a rule that has no wire form.
var ErrRule = errors.New("rule can't be sent")

// Offsets in struct audit_rule_data (include/uapi/linux/audit.h); all numbers
// are in the machine's byte order.
const (
	offAction     = 4
	offCount      = 8
	offMask       = 12
	offFields     = offMask + 4*maskWords
	offValues     = offFields + 4*MaxFields
	offFieldFlags = offValues + 4*MaxFields
	offBufLen     = offFieldFlags + 4*MaxFields
	headerLen     = offBufLen + 4 // 1040

	// maxLen is the longest rule that goes: a netlink message of the audit tools
	// has at most 8970 bytes, its header of 16 included.
	maxLen = 8970 - 16
	maxBuf = maxLen - headerLen
)

// Marshal returns the rule as a struct audit_rule_data, which auditctl sends in
// AUDIT_ADD_RULE and AUDIT_DEL_RULE: 1040 bytes and the strings (FORMAT.md), in this
// machine's byte order. The error wraps ErrRule.
func (r *Rule) Marshal() ([]byte, error) {
	if len(r.Fields) > MaxFields {
		return nil, fmt.Errorf("%w: %d fields, the kernel takes %d", ErrRule, len(r.Fields), MaxFields)
	}
	if r.List&^listMask != 0 {
		return nil, fmt.Errorf("%w: list %d", ErrRule, r.List)
	}
	flags := uint32(r.List)
	if r.Prepend {
		flags |= prepend
	}
	b := make([]byte, headerLen, headerLen+64)
	put := func(off int, v uint32) { binary.NativeEndian.PutUint32(b[off:], v) }
	put(0, flags)
	put(offAction, uint32(r.Action))
	put(offCount, uint32(len(r.Fields)))
	for i, w := range r.Mask {
		put(offMask+4*i, w)
	}
	for i, f := range r.Fields {
		value := f.Value
		if f.ID.IsString() {
			if strings.IndexByte(f.Str, 0) >= 0 {
				return nil, fmt.Errorf("%w: a NUL byte in the value of %s", ErrRule, f.ID)
			}
			if len(f.Str) > MaxPath {
				return nil, fmt.Errorf("%w: the value of %s has %d bytes, at most %d go", ErrRule, f.ID, len(f.Str), MaxPath)
			}
			value = uint32(len(f.Str))
			b = append(b, f.Str...)
		}
		put(offFields+4*i, uint32(f.ID))
		put(offValues+4*i, value)
		put(offFieldFlags+4*i, uint32(f.Op))
	}
	if len(b) > maxLen {
		return nil, fmt.Errorf("%w: its strings have %d bytes together, at most %d go", ErrRule, len(b)-headerLen, maxBuf)
	}
	put(offBufLen, uint32(len(b)-headerLen))
	return b, nil
}

// Unmarshal parses a struct audit_rule_data as the kernel lists it. It checks every
// length against the bytes present, never reads outside of b, and copies the strings: the
// Rule does not refer to b. The error wraps ErrWire.
func Unmarshal(b []byte) (*Rule, error) {
	if len(b) < headerLen {
		return nil, fmt.Errorf("%w: %d bytes, want at least %d", ErrWire, len(b), headerLen)
	}
	get := func(off int) uint32 { return binary.NativeEndian.Uint32(b[off:]) }
	flags, count, bufLen := get(0), get(offCount), get(offBufLen)
	if flags&^(uint32(listMask)|prepend) != 0 {
		return nil, fmt.Errorf("%w: flags 0x%x", ErrWire, flags)
	}
	if count > MaxFields {
		return nil, fmt.Errorf("%w: %d fields, at most %d go", ErrWire, count, MaxFields)
	}
	if bufLen > maxBuf || uint64(bufLen) > uint64(len(b)-headerLen) {
		return nil, fmt.Errorf("%w: says %d bytes of strings, %d are there and at most %d go", ErrWire, bufLen, len(b)-headerLen, maxBuf)
	}
	r := &Rule{List: List(flags) & listMask, Prepend: flags&prepend != 0, Action: Action(get(offAction))}
	if r.Action == actionUnset { // no text loads it: the kernel has three actions
		return nil, fmt.Errorf("%w: action %d", ErrWire, uint32(r.Action))
	}
	for i := range r.Mask {
		r.Mask[i] = get(offMask + 4*i)
	}
	buf := b[headerLen : headerLen+int(bufLen)]
	for i := range int(count) {
		f := Field{ID: FieldID(get(offFields + 4*i)), Op: Operator(get(offFieldFlags + 4*i)), Value: get(offValues + 4*i)}
		if f.Op.String() == "" {
			return nil, fmt.Errorf("%w: operator 0x%x of field %d", ErrWire, uint32(f.Op), i)
		}
		if f.ID.IsString() {
			if uint64(f.Value) > uint64(len(buf)) {
				return nil, fmt.Errorf("%w: the value of %s has %d bytes, %d are left", ErrWire, f.ID, f.Value, len(buf))
			}
			if f.Value > MaxPath {
				return nil, fmt.Errorf("%w: the value of %s has %d bytes, at most %d go", ErrWire, f.ID, f.Value, MaxPath)
			}
			f.Str, buf, f.Value = string(buf[:f.Value]), buf[f.Value:], 0
			if strings.IndexByte(f.Str, 0) >= 0 {
				return nil, fmt.Errorf("%w: a NUL byte in the value of %s", ErrWire, f.ID)
			}
		}
		r.Fields = append(r.Fields, f)
	}
	if len(buf) != 0 {
		return nil, fmt.Errorf("%w: %d bytes of strings belong to no field", ErrWire, len(buf))
	}
	return r, nil
}

// EquivalentPayload returns the payload of an AUDIT_MAKE_EQUIV request (-q): the lengths
// of both paths, 4 bytes each in this machine's byte order, then the path mount and the
// path subtree, without NUL bytes.
func EquivalentPayload(mount, subtree string) []byte {
	b := binary.NativeEndian.AppendUint32(nil, uint32(len(mount)))
	b = binary.NativeEndian.AppendUint32(b, uint32(len(subtree)))
	return append(append(b, mount...), subtree...)
}
