package seal

import (
	"errors"
)

// MadeBy returns the newest leaf that says how a partition was made of others, and which it is. Those that cannot be read are left out. Error:
// ErrNoLeaf. It looks at each leaf once, and remembers where those of that kind are.
func (t *Tree) MadeBy(part string) (index int64, text []byte, l *Leaf, err error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if err := t.lookForMade(); err != nil {
		return 0, nil, nil, err
	}
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

// lookForMade notes which partitions the leaves made that it has not looked at yet; mu is held to read.
func (t *Tree) lookForMade() error {
	t.making.Lock()
	defer t.making.Unlock()
	if t.made == nil {
		t.made = map[string]int64{}
	}
	for ; t.looked < t.size; t.looked++ {
		off, _, err := t.entry(t.looked)
		if err != nil {
			return err
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
			return err
		}
		l, err := ParseLeaf(text)
		if err != nil {
			continue
		}
		for i := range l.Made {
			t.made[l.Made[i].Part] = t.looked
		}
	}
	return nil
}
