package faultfs

import (
	"maps"
	"math/rand"
	"path/filepath"
	"slices"
)

// Page is the size in bytes of the unit that a page cache writes back.
const Page = 4096

// OrderedFolders makes EachLoss keep changes of folders as filesystems with a journal
// do: of those that no SyncDir has made durable the first few survive. Otherwise any do.
func (f *FS) OrderedFolders() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ordered = true
}

// version is what a sector held, and how long the file was, before a change.
type version struct {
	moment int
	sector int64 // -1: this is about the size only
	before []byte
	size   int64
}

// KeepHistory remembers every unsynced version of every sector and size from now
// on: a page that was written twice may have reached the disk in between.
func (f *FS) KeepHistory() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.history = true
}

// changing notes what is there before the bytes [off, end) of a file change, or its
// size does.
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

// loss is one thing that a power cut decides: which version of a page, or of a
// file's size, is on the disk, or whether a change of a folder is. Version 0 is the
// durable one, the last is the one that programs see.
type loss struct {
	node    *node   // nil: changes of folders
	page    int64   // -1: the size
	dirOps  []dirOp // version k: the first k of them are there
	moments []int   // after which version 1, 2, … was there
}

func (l loss) versions() int {
	if l.node == nil {
		return len(l.dirOps) + 1
	}
	return len(l.moments) + 1
}

// losses lists what is undecided, in an order that a copy has, too.
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

// allNodes is every node that a name may lead to after a crash, once.
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

// crashAs cuts the power and starts again, with the chosen version of everything
// that was undecided.
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

// at is the moment up to which changes are on the disk.
func (l loss) at(choice int) int {
	if choice == 0 {
		return 0
	}
	return l.moments[choice-1]
}

func (n *node) sizeAfter(moment int) int64 {
	for _, v := range n.past {
		if v.sector < 0 && v.moment > moment {
			return v.size
		}
	}
	return int64(len(n.data))
}

// takeBack makes sectors what they were after a moment.
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

// EachLoss calls visit with a copy of the filesystem for what a power loss now may
// leave: of every unit (Sector or Page) of every file that was written since its last
// sync any version, of every file's size, and any of the changes of folders. It needs
// KeepHistory. When there are more than most outcomes it visits nothing lost,
// everything lost, each thing lost alone and each kept alone, and others at random. It
// returns how many it visited, and whether these were all.
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
