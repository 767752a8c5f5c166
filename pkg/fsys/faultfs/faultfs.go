// Package faultfs is a filesystem in memory that fails as disks do, for tests of
// storage code only. It keeps written and durable content apart: Crash drops unsynced
// data sector by sector and unsynced folder entries one by one, at random by the seed. A
// sync that a test makes fail loses pages for good, although a later sync of the same
// file succeeds, as with the Linux page cache. A test can make the n-th operation of a
// kind fail, let space run out, and cut the power at any operation. It imports pkg/fsys
// only.
package faultfs

import (
	"errors"
	"io/fs"
	"math/rand"
	"path/filepath"
	"sort"
	"sync"
)

// Op is a kind of operation.
type Op string

// The operations that can be counted and made to fail. Create is an OpenFile
// that makes a new file, Open any other.
const (
	Create   Op = "create"
	Open     Op = "open"
	Read     Op = "read"
	Write    Op = "write"
	Truncate Op = "truncate"
	Allocate Op = "allocate"
	Sync     Op = "sync" // Sync and Datasync
	Rename   Op = "rename"
	Remove   Op = "remove"
	ReadDir  Op = "readdir"
	SyncDir  Op = "syncdir"
	Mkdir    Op = "mkdir"
	Lock     Op = "lock"
)

// ops is all kinds, in a stable order.
var ops = []Op{Create, Open, Read, Write, Truncate, Allocate, Sync, Rename, Remove, ReadDir, SyncDir, Mkdir, Lock}

// Ops returns all kinds of operations.
func Ops() []Op { return append([]Op(nil), ops...) }

// ErrPower is returned by every operation between a power cut (CutPower) and Crash.
var ErrPower = errors.New("faultfs: power is off")

// Sector is the unit that is written whole or not at all.
const Sector = 512

// FS is a filesystem in memory. Any number of goroutines may use it.
//
// It keeps two trees: nodes, which programs see, and durable, which a crash leaves. A change of
// a folder is made in nodes at once and waits in dirOps; SyncDir applies the folder's changes to
// durable, a crash some of the others. A file's node is in both trees; its durable content is
// told from its present one by undo and size.
type FS struct {
	mu       sync.Mutex // guards everything below, all nodes and their content
	rng      *rand.Rand
	nodes    map[string]*node // by path, as programs see them
	dirOps   []dirOp          // changes of nodes that no SyncDir has made durable, in order
	durable  map[string]*node // by path
	locks    map[string]bool
	open     int        // handles
	counts   map[Op]int // operations so far, those that failed included
	faults   []fault
	total    int // operations that change something
	cutAt    int // power goes off at this one, 0 never
	off      bool
	space    int64 // bytes left; -1 without limit
	epoch    int   // one more with each Crash and Kill: handles of an earlier one are dead
	tornByte bool
	ordered  bool // changes of folders survive in the order in which they were made
	history  bool // every version between the durable and the present content is kept
	moment   int  // counts changes of files, with history
}

// fault makes some operations of a kind fail.
type fault struct {
	op   Op
	n    int // the first, by FS.counts
	last int // the last
	err  error
}

// node is a file or a folder.
type node struct {
	dir  bool
	perm fs.FileMode
	data []byte // as programs see it
	// The durable content differs from data in the sectors of undo, which hold the durable
	// bytes, and in size. A sector in lost was written, failed to reach the disk, and counts as
	// clean: no later sync writes it.
	undo map[int64][]byte
	lost map[int64][]byte
	size int64     // durable
	past []version // with history: before each change since the last sync
}

// dirOp is one change of a folder: the names that it sets, together. A nil node removes the
// name.
type dirOp struct {
	dir   string
	names map[string]*node
}

// New returns an empty filesystem with the folder /; seed decides what a crash
// keeps and how much of a failing write is done.
func New(seed int64) *FS {
	root := &node{dir: true, perm: 0o755}
	return &FS{
		rng:     rand.New(rand.NewSource(seed)),
		nodes:   map[string]*node{"/": root},
		durable: map[string]*node{"/": root},
		locks:   map[string]bool{},
		counts:  map[Op]int{},
		space:   -1,
	}
}

// Fail makes the n-th operation of a kind from now fail with err; n = 1 is the next.
func (f *FS) Fail(op Op, n int, err error) { f.FailRange(op, n, n, err) }

// FailRange makes the n-th to the last-th operation of a kind from now fail.
func (f *FS) FailRange(op Op, n, last int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = append(f.faults, fault{op, f.counts[op] + n, f.counts[op] + last, err})
}

// Heal removes all faults and the limit of space.
func (f *FS) Heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults, f.space, f.cutAt = nil, -1, 0
}

// Count returns how many operations of a kind there were.
func (f *FS) Count(op Op) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.counts[op]
}

// SetSpace limits the bytes that files may grow by from now on.
func (f *FS) SetSpace(bytes int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.space = bytes
}

// TearBytes lets a crash tear a sector in the middle, as no decent disk does.
func (f *FS) TearBytes() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tornByte = true
}

// CutPower cuts the power at the n-th changing operation from now: it is done in
// part or not at all, and everything fails with ErrPower until Crash.
func (f *FS) CutPower(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cutAt = f.total + n
}

// Changes returns how many operations have changed something.
func (f *FS) Changes() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.total
}

// OpenFiles returns how many handles are open, for leak checks.
func (f *FS) OpenFiles() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.open
}

// step counts an operation and returns how it is to fail, nil when it is not; f.mu is held.
func (f *FS) step(op Op) error {
	if f.off {
		return ErrPower
	}
	f.counts[op]++
	if op != Read && op != Open && op != ReadDir && op != Lock {
		f.total++
		if f.total == f.cutAt {
			f.off = true
			return ErrPower
		}
	}
	for _, x := range f.faults {
		if x.op == op && f.counts[op] >= x.n && f.counts[op] <= x.last {
			return x.err
		}
	}
	return nil
}

// Kill ends the process that uses the filesystem: its locks and handles are gone, everything
// that it has written stays, as the page cache keeps it.
func (f *FS) Kill() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.restart()
}

// restart makes all handles and locks void, removes all faults and puts the power on; f.mu is
// held.
func (f *FS) restart() {
	f.locks = map[string]bool{}
	f.epoch++
	f.open = 0
	f.off = false
	f.cutAt = 0
	f.faults = nil
}

// Crash cuts the power and starts again: unsynced data and folder entries
// survive or not at random, each sector and each entry for itself.
func (f *FS) Crash() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.restart()
	for _, op := range f.dirOps {
		if f.rng.Intn(2) == 0 {
			f.apply(op)
		}
	}
	f.dirOps = nil
	f.nodes = map[string]*node{}
	for _, name := range sortedNames(f.durable) {
		n := f.durable[name]
		if name != "/" && f.nodes[filepath.Dir(name)] == nil {
			delete(f.durable, name) // its folder did not survive
			continue
		}
		f.nodes[name] = n
		if !n.dir {
			f.lose(n)
		}
	}
}

// lose decides at random which of a file's unsynced sectors, and of its size, survive a crash;
// f.mu is held.
func (f *FS) lose(n *node) {
	size := n.size
	switch now := int64(len(n.data)); {
	case now == size:
	case f.rng.Intn(3) == 0:
		size = now
	case now > size && f.rng.Intn(2) == 0:
		size += f.rng.Int63n(now - size)
	}
	n.resize(max(size, n.size, int64(len(n.data))))
	for _, i := range sortedSectors(n.undo) {
		switch f.rng.Intn(4) {
		case 0, 1:
			n.put(i, n.undo[i], Sector)
		case 2:
			if f.tornByte {
				n.put(i, n.undo[i], f.rng.Intn(Sector))
			}
		}
	}
	for _, i := range sortedSectors(n.lost) {
		n.put(i, n.lost[i], Sector)
	}
	n.resize(size)
	n.undo, n.lost, n.size, n.past = nil, nil, size, nil
}

func sortedNames(m map[string]*node) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

func sortedSectors(m map[int64][]byte) []int64 {
	list := make([]int64, 0, len(m))
	for i := range m {
		list = append(list, i)
	}
	sort.Slice(list, func(a, b int) bool { return list[a] < list[b] })
	return list
}

// put sets the first upTo bytes of a sector, as far as the file reaches.
func (n *node) put(sector int64, b []byte, upTo int) {
	at := sector * Sector
	if at >= int64(len(n.data)) {
		return
	}
	copy(n.data[at:], b[:upTo])
}

// resize cuts a file, or extends it with zeroes; the filesystem is locked.
func (n *node) resize(size int64) {
	if size <= int64(len(n.data)) {
		n.data = n.data[:size:size]
		return
	}
	n.data = append(n.data, make([]byte, size-int64(len(n.data)))...)
}

// dirty remembers the durable content of the sectors of [off, end) before they
// change.
func (n *node) dirty(off, end int64) {
	if n.undo == nil {
		n.undo = map[int64][]byte{}
	}
	for i := off / Sector; i*Sector < end; i++ {
		if n.undo[i] != nil {
			continue
		}
		if was := n.lost[i]; was != nil {
			n.undo[i] = was
			delete(n.lost, i)
			continue
		}
		was := make([]byte, Sector)
		if at := i * Sector; at < int64(len(n.data)) {
			copy(was, n.data[at:])
		}
		n.undo[i] = was
	}
}

// apply makes a change of a folder durable; f.mu is held.
func (f *FS) apply(op dirOp) {
	for name, n := range op.names {
		if n == nil {
			delete(f.durable, name)
		} else {
			f.durable[name] = n
		}
	}
}

// change makes a change of a folder, which a SyncDir of dir makes durable; f.mu is held.
func (f *FS) change(dir string, names map[string]*node) {
	for name, n := range names {
		if n == nil {
			delete(f.nodes, name)
		} else {
			f.nodes[name] = n
		}
	}
	f.dirOps = append(f.dirOps, dirOp{dir, names})
}

func pathErr(op Op, name string, err error) error {
	return &fs.PathError{Op: string(op), Path: name, Err: err}
}
