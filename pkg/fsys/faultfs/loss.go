package faultfs

import (
	"maps"
	"math/rand"
	"path/filepath"
	"slices"
)

// Page is the size in bytes of the unit that a page cache writes back.
const Page = 4096

// OrderedFolders makes EachLoss treat changes of folders as filesystems with a journal do: of
// those that no SyncDir has made durable, the first few survive. Without it, any of them may.
func (f *FS) OrderedFolders() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ordered = true
}

// version is what a sector held before a change, or how long the file was.
type version struct {
	moment int    // of the change
	sector int64  // -1: this is the size
	before []byte // of the sector
	size   int64
}

// KeepHistory keeps every unsynced version of every sector and size from now on: a page that
// was written twice may have reached the disk in between.
func (f *FS) KeepHistory() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.history = true
}

// changing keeps what a file is before its bytes [off, end), or its size, change; f.mu is held.
func (f *FS) changing(n *node, off, end int64) {
	if f.history {
		f.moment++
		n.past = append(n.past, version{moment: f.moment, sector: -1, size: int64(len(n.data))})
		for i := off / Sector; i*Sector < end; i++ {
			was := make([]byte, Sector)
			if at := i * Sector; at < int64(len(n.data)) {
				copy(was, n.data[at:])
			}
			n.past = append(n.past, version{moment: f.moment, sector: i, before: was})
		}
	}
	if end > off {
		n.dirty(off, end)
	}
}

// loss is one thing that a power cut decides: which version of a page, or of a file's size, is
// on the disk, or which changes of folders are. Version 0 is the durable one, the last is the
// one that programs see.
type loss struct {
	node    *node   // nil: this is about folders
	page    int64   // -1: the size
	dirOps  []dirOp // version k has the first k of them
	moments []int   // version k is that after the change at moments[k-1]
}

// versions returns how many versions there are.
func (l loss) versions() int {
	if l.node == nil {
		return len(l.dirOps) + 1
	}
	return len(l.moments) + 1
}

// losses lists what a power cut would decide, in pages of unit bytes, in an order that is the
// same for a copy; f.mu is held.
func (f *FS) losses(unit int64) (list []loss) {
	if f.ordered {
		list = append(list, loss{dirOps: f.dirOps})
	} else {
		for i := range f.dirOps {
			list = append(list, loss{dirOps: f.dirOps[i : i+1]})
		}
	}
	for _, n := range f.allNodes() {
		pages := map[int64][]int{}
		for _, v := range n.past {
			page := int64(-1)
			if v.sector >= 0 {
				page = v.sector * Sector / unit
			}
			if m := pages[page]; len(m) == 0 || m[len(m)-1] != v.moment {
				pages[page] = append(m, v.moment)
			}
		}
		for _, page := range slices.Sorted(maps.Keys(pages)) {
			list = append(list, loss{node: n, page: page, moments: pages[page]})
		}
	}
	return list
}

// allNodes lists every node that a name may lead to after a crash, once; f.mu is held.
func (f *FS) allNodes() (list []*node) {
	seen := map[*node]bool{}
	add := func(n *node) {
		if n != nil && !seen[n] {
			seen[n] = true
			list = append(list, n)
		}
	}
	for _, name := range sortedNames(f.durable) {
		add(f.durable[name])
	}
	for _, op := range f.dirOps {
		for _, name := range sortedNames(op.names) {
			add(op.names[name])
		}
	}
	return list
}

// crashAs cuts the power and starts again; choice has the version of each of list, which
// losses(unit) returned. Nobody else uses f.
func (f *FS) crashAs(unit int64, list []loss, choice []int) {
	f.restart()
	size := map[*node]int64{}
	for i, l := range list {
		switch {
		case l.node == nil:
			for _, op := range l.dirOps[:choice[i]] {
				f.apply(op)
			}
			continue
		case l.page < 0:
			size[l.node] = l.node.sizeAfter(l.at(choice[i]))
		default:
			l.node.takeBack(l.page*unit/Sector, unit/Sector, l.at(choice[i]))
		}
	}
	for n, to := range size {
		n.resize(to)
	}
	for _, n := range f.allNodes() {
		n.undo, n.lost, n.past, n.size = nil, nil, nil, int64(len(n.data))
	}
	f.dirOps, f.nodes = nil, map[string]*node{}
	for _, name := range sortedNames(f.durable) {
		if name != "/" && f.nodes[filepath.Dir(name)] == nil {
			delete(f.durable, name) // its folder did not survive
			continue
		}
		f.nodes[name] = f.durable[name]
	}
}

// at returns the moment up to which changes are on the disk with that version.
func (l loss) at(choice int) int {
	if choice == 0 {
		return 0
	}
	return l.moments[choice-1]
}

// sizeAfter returns how long the file was after a moment.
func (n *node) sizeAfter(moment int) int64 {
	for _, v := range n.past {
		if v.sector < 0 && v.moment > moment {
			return v.size
		}
	}
	return int64(len(n.data))
}

// takeBack makes count sectors from first on what they were after a moment. The first version
// that was kept of a sector after that moment has it.
func (n *node) takeBack(first, count int64, moment int) {
	done := map[int64]bool{}
	for _, v := range n.past {
		if v.moment > moment && v.sector >= first && v.sector < first+count && !done[v.sector] {
			done[v.sector] = true
			if end := (v.sector + 1) * Sector; end > int64(len(n.data)) {
				n.resize(end) // cut to its size later
			}
			n.put(v.sector, v.before, Sector)
		}
	}
}

// Copy returns an independent copy of the filesystem.
func (f *FS) Copy() *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	of := map[*node]*node{nil: nil}
	twin := func(n *node) *node {
		if c, ok := of[n]; ok {
			return c
		}
		c := *n
		c.data = slices.Clone(n.data)
		c.undo, c.lost = copySectors(n.undo), copySectors(n.lost)
		c.past = slices.Clone(n.past)
		of[n] = &c
		return &c
	}
	tree := func(m map[string]*node) map[string]*node {
		out := make(map[string]*node, len(m))
		for name, n := range m {
			out[name] = twin(n)
		}
		return out
	}
	c := &FS{
		rng: rand.New(rand.NewSource(int64(f.total))), nodes: tree(f.nodes), durable: tree(f.durable), locks: maps.Clone(f.locks),
		open: f.open, counts: maps.Clone(f.counts), faults: slices.Clone(f.faults), total: f.total, cutAt: f.cutAt, off: f.off,
		space: f.space, epoch: f.epoch, tornByte: f.tornByte, history: f.history, moment: f.moment, ordered: f.ordered,
	}
	for _, op := range f.dirOps {
		c.dirOps = append(c.dirOps, dirOp{op.dir, tree(op.names)})
	}
	return c
}

// copySectors copies what a torn write may change in place.
func copySectors(m map[int64][]byte) map[int64][]byte {
	if m == nil {
		return nil
	}
	out := make(map[int64][]byte, len(m))
	for i, b := range m {
		out[i] = slices.Clone(b)
	}
	return out
}

// EachLoss calls visit with a copy of the filesystem for each outcome that a power loss now may
// have: any version since the last sync of each unit (Sector or Page) of each file and of each
// file's size, and any of the changes of folders. It needs KeepHistory. When there are more
// than most outcomes, it visits that in which nothing is lost, that in which everything is,
// those in which each thing is lost alone and kept alone, and others at random. It returns how
// many it visited, and whether these were all.
func (f *FS) EachLoss(unit int64, most int, rng *rand.Rand, visit func(after *FS)) (states int, all bool) {
	f.mu.Lock()
	list := f.losses(unit)
	f.mu.Unlock()
	try := func(choice []int) {
		c := f.Copy()
		c.crashAs(unit, c.losses(unit), choice)
		states++
		visit(c)
	}
	total := 1
	for _, l := range list {
		if total *= l.versions(); total > most {
			someLosses(list, most, rng, try)
			return states, false
		}
	}
	choice := make([]int, len(list))
	for range total {
		try(choice)
		for i := range choice {
			if choice[i]++; choice[i] < list[i].versions() {
				break
			}
			choice[i] = 0
		}
	}
	return states, true
}

// someLosses tries about most of the outcomes, as EachLoss says.
func someLosses(list []loss, most int, rng *rand.Rand, try func([]int)) {
	none, all := make([]int, len(list)), make([]int, len(list))
	for i, l := range list {
		none[i] = l.versions() - 1
	}
	try(none)
	try(all)
	left := most - 2
	for i := 0; i < len(list) && left > 1; i++ {
		one, but := slices.Clone(none), slices.Clone(all)
		one[i], but[i] = 0, none[i]
		try(one)
		try(but)
		left -= 2
	}
	for ; left > 0; left-- {
		choice := make([]int, len(list))
		for i, l := range list {
			choice[i] = rng.Intn(l.versions())
		}
		try(choice)
	}
}
