package seal

import (
	"errors"
)

// MadeBy returns the newest leaf that says how a partition was made of others, and which it is. Those that cannot be read are left out. Error:
// ErrNoLeaf. It looks at each leaf once, and remembers where those of that kind are.
func (t *Tree) MadeBy(part string) (index int64, text []byte, l *Leaf, err error) {
	for more := true; more; {
		if more, err = t.lookForMade(); err != nil {
			return 0, nil, nil, err
		}
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	t.making.Lock()
	index, ok := t.made[part]
	t.making.Unlock()
	if !ok {
		return 0, nil, nil, ErrNoLeaf
	}
	if text, err = t.text(index); err != nil {
		return 0, nil, nil, err
	}
	l, err = ParseLeaf(text)
	return index, text, l, err
}

// lookMost is how many leaves are looked at before who appends may go on.
const lookMost = 256

// lookForMade notes which partitions some of the leaves made that it has not looked at yet, and reports whether there are more of these.
func (t *Tree) lookForMade() (more bool, err error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	t.making.Lock()
	defer t.making.Unlock()
	if t.made == nil {
		t.made = map[string]int64{}
	}
	for upTo := min(t.size, t.looked+lookMost); t.looked < upTo; t.looked++ {
		off, _, err := t.entry(t.looked)
		if err != nil {
			return false, err
		}
		var b [2]byte // version and kind
		if _, err := t.leaves.ReadAt(b[:], off+recordHead); err != nil || Kind(b[1]) != Rewritten {
			continue // what cannot be read is said elsewhere
		}
		text, err := t.text(t.looked)
		if errors.Is(err, ErrDamaged) {
			continue
		}
		if err != nil {
			return false, err
		}
		l, err := ParseLeaf(text)
		if err != nil {
			continue
		}
		for i := range l.Made {
			t.made[l.Made[i].Part] = t.looked
		}
	}
	return t.looked < t.size, nil
}
