package seal

import "context"

// MadeBy returns the newest leaf that says how a partition was made of others, and which it is. Those that cannot be read are left out. Error:
// ErrNoLeaf. It looks at each leaf once, and remembers where those of that kind are.
func (t *Tree) MadeBy(part string) (index int64, text []byte, l *Leaf, err error) {
	index, ok, err := t.madeBy(part)
	switch {
	case err != nil:
		return 0, nil, nil, err
	case !ok:
		return 0, nil, nil, ErrNoLeaf
	}
	if text, err = t.Text(index); err != nil {
		return 0, nil, nil, err
	}
	l, err = ParseLeaf(text)
	return index, text, l, err
}

// madeBy returns which leaf it is; ok is false where there is none.
func (t *Tree) madeBy(part string) (index int64, ok bool, err error) {
	t.making.Lock()
	defer t.making.Unlock()
	if t.made == nil {
		t.made = map[string]int64{}
	}
	t.looked, err = t.Walk(context.Background(), t.looked, t.Size(), func(r *Row) bool { return r.Has(Rewritten) }, func(i int64, l *Leaf, text []byte) bool {
		if l.Kind != Rewritten {
			return true
		}
		if l, err := ParseLeaf(text); err == nil {
			for k := range l.Made {
				t.made[l.Made[k].Part] = i
			}
		}
		return true
	})
	index, ok = t.made[part]
	return index, ok, err
}
