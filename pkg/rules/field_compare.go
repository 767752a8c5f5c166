package rules

import (
	"strings"
)

// compare reads -C.
func (p *parser) compare(w word) error {
	if len(p.rule.Fields) >= MaxFields-1 {
		return p.fail(w, "Too many fields in rule: "+w.s, "a rule has at most 63 conditions: make two of it")
	}
	op := NotEqual
	left, right, ok := strings.Cut(w.s, "!=")
	if !ok {
		op = Equal
		if left, right, ok = strings.Cut(w.s, "="); !ok {
			return p.fail(w, w.s+" only takes = or != operators", "write two fields, as in uid!=euid")
		}
	}
	leftAt, rightAt := word{left, w.arg, w.off}, word{right, w.arg, w.off + len(w.s) - len(right)}
	sides := []string{"auid", "uid", "euid", "suid", "fsuid", "obj_uid", "gid", "egid", "sgid", "fsgid", "obj_gid"}
	switch {
	case left == "":
		return p.fail(w, "-C missing field name before operator for "+w.s, "write two fields, as in uid!=euid")
	case right == "":
		return p.fail(w, "-C missing value after operation for  "+left, "write two fields, as in uid!=euid")
	}
	a, ok := numberOf(fieldNames, left)
	if !ok {
		hint := suggest(left, sides)
		if strings.TrimSpace(left) != left {
			hint = "write both fields without spaces"
		} else if strings.ContainsAny(left, "<>&") {
			hint = "two fields can be compared with = or != only"
		}
		return p.fail(leftAt, "-C unknown field: "+left, hint)
	}
	b, ok := numberOf(fieldNames, right)
	if !ok {
		return p.fail(rightAt, "-C unknown right hand value for comparison with: "+left, suggest(right, sides), "both sides are fields; a value is compared with -F")
	}
	if p.list() != ListExit {
		return p.fail(leftAt, left+" can only be used with exit filter list", "this rule is not for the exit list")
	}
	n, ok := comparison(a, b)
	if !ok {
		return p.fail(w, "-C incompatible comparison "+left, "two different fields of auid, uid, euid, suid, fsuid, obj_uid, or two of gid, egid, sgid, fsgid, obj_gid")
	}
	p.rule.Fields = append(p.rule.Fields, Field{ID: FieldCompare, Op: op, Value: n})
	return nil
}
