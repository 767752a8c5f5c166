package ruleset

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/auditfleet/auditfleet/pkg/rules"
)

// Rule files of tens of thousands of rules are generated ones, of a watch a file say.
// What compares each rule with each other takes minutes there: these indexes name the
// few that a comparison can succeed with.

// ruleKey is the same for rules that are Equal, and for few others: it leaves out the
// system calls.
func ruleKey(r *rules.Rule) string {
	b := make([]byte, 0, 96)
	b = binary.AppendUvarint(b, uint64(r.List))
	b = binary.AppendUvarint(b, uint64(r.Action))
	for _, f := range r.Fields {
		b = binary.AppendUvarint(b, uint64(f.ID))
		b = binary.AppendUvarint(b, uint64(f.Op))
		b = binary.AppendUvarint(b, uint64(f.Value))
		b = binary.AppendUvarint(b, uint64(len(f.Str)))
		b = append(b, f.Str...)
	}
	return string(b)
}

// ruleIndex finds rules of a list that are Equal to one.
type ruleIndex struct {
	list []*rules.Rule
	at   map[string][]int // by ruleKey, ascending
}

func newRuleIndex(list []*rules.Rule) *ruleIndex {
	x := &ruleIndex{at: make(map[string][]int, len(list))}
	for _, r := range list {
		x.add(r)
	}
	return x
}

// add adds a rule at the end of the list.
func (x *ruleIndex) add(r *rules.Rule) {
	k := ruleKey(r)
	x.at[k] = append(x.at[k], len(x.list))
	x.list = append(x.list, r)
}

// all returns where rules that are Equal to r are, ascending.
func (x *ruleIndex) all(r *rules.Rule) (out []int) {
	for _, i := range x.at[ruleKey(r)] {
		if x.list[i].Equal(r) {
			out = append(out, i)
		}
	}
	return out
}

func (x *ruleIndex) has(r *rules.Rule) bool { return len(x.all(r)) > 0 }

// conditionIndex finds the rules of a list whose conditions may all be implied by
// others. Each rule is filed under one of its conditions, the rarest: where that one is
// implied by none, they are not.
type conditionIndex struct {
	by    map[rules.Field][]int
	trees map[string][]int // those under a tree, by its path without the last slash
	loose []int            // of no condition to file them under
}

// newConditionIndex makes an index of n rules; a rule that has is false for is left out.
func newConditionIndex(n int, of func(i int) (conditions []rules.Field, has bool)) *conditionIndex {
	x := &conditionIndex{by: map[rules.Field][]int{}, trees: map[string][]int{}}
	count := map[rules.Field]int{}
	for i := range n {
		list, _ := of(i)
		for _, f := range list {
			count[f]++
		}
	}
	for i := range n {
		list, has := of(i)
		if !has {
			continue
		}
		// A set of permissions may be implied by many others.
		list = slices.DeleteFunc(slices.Clone(list), func(f rules.Field) bool { return f.ID == rules.FieldPerm })
		if len(list) == 0 {
			x.loose = append(x.loose, i)
			continue
		}
		f := slices.MinFunc(list, func(a, b rules.Field) int { return cmp.Compare(count[a], count[b]) })
		x.by[f] = append(x.by[f], i)
		if f.ID == rules.FieldDir && f.Op == rules.Equal {
			dir := strings.TrimSuffix(f.Str, "/")
			x.trees[dir] = append(x.trees[dir], i)
		}
	}
	return x
}

// impliedBy returns the rules whose conditions may be implied by these, ascending. All
// whose conditions are implied, as implies has it, are among them.
func (x *conditionIndex) impliedBy(special []rules.Field) []int {
	out := slices.Clone(x.loose)
	for _, s := range special {
		out = append(out, x.by[s]...)
		if s.Op != rules.Equal || s.ID != rules.FieldPath && s.ID != rules.FieldDir {
			continue
		}
		for i := range len(s.Str) {
			if s.Str[i] == '/' {
				out = append(out, x.trees[s.Str[:i]]...)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
