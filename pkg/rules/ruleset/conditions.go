package ruleset

import (
	"strings"

	"github.com/auditfleet/auditfleet/pkg/rules"
)

// conditions are a rule's fields without architecture and key.
func conditions(r *rules.Rule) []rules.Field {
	var out []rules.Field
	for _, f := range r.Fields {
		if f.ID != rules.FieldArch && f.ID != rules.FieldKey {
			out = append(out, f)
		}
	}
	return out
}

func sameConditions(a, b []rules.Field) bool {
	return len(a) == len(b) && implies(a, b)
}

// implies reports whether each condition of general holds when special does.
func implies(special, general []rules.Field) bool {
	for _, g := range general {
		found := false
		for _, s := range special {
			found = found || s == g || inTree(s, g) || fewerPerms(s, g)
		}
		if !found {
			return false
		}
	}
	return true
}

// inTree reports whether s is about a file or a tree below the tree that g is about.
func inTree(s, g rules.Field) bool {
	return g.ID == rules.FieldDir && g.Op == rules.Equal && s.Op == rules.Equal &&
		(s.ID == rules.FieldPath || s.ID == rules.FieldDir) && strings.HasPrefix(s.Str, strings.TrimSuffix(g.Str, "/")+"/")
}

func fewerPerms(s, g rules.Field) bool {
	return g.ID == rules.FieldPerm && s.ID == rules.FieldPerm && s.Op == g.Op && s.Value&^g.Value == 0
}

// wider reports whether a matches whenever b does.
func wider(a, b *rules.Rule) bool {
	if !b.Mask.All() || !a.Mask.All() {
		for i := range b.Mask {
			if b.Mask[i]&^a.Mask[i] != 0 && !(a.Mask.All() && i == len(b.Mask)-1) {
				return false
			}
		}
	}
	return implies(withoutKey(b), withoutKey(a))
}

func withoutKey(r *rules.Rule) []rules.Field {
	var out []rules.Field
	for _, f := range r.Fields {
		if f.ID != rules.FieldKey {
			out = append(out, f)
		}
	}
	return out
}
