package importer

import (
	"bytes"
	"hash/maphash"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/record"
)

// key stands for a record of a host: its time and serial as they are, and a hash of host (as event.FoldName has it), type and text.
// The hash has a seed of the process, so nobody can make two records with one key.
type key struct {
	ms     int64
	serial uint64
	hash   uint64
}

// keyer makes keys.
type keyer struct {
	h      maphash.Hash
	host   []byte // the last one
	folded string // as event.FoldName has it
}

func (k *keyer) of(host []byte, r *record.Record) key {
	if !bytes.Equal(host, k.host) {
		k.host, k.folded = append(k.host[:0], host...), event.FoldName(string(host))
	}
	k.h.Reset()
	_, _ = k.h.WriteString(k.folded)
	_ = k.h.WriteByte(0)
	_, _ = k.h.Write(r.TypeName)
	_ = k.h.WriteByte(0)
	_, _ = k.h.Write(r.Body)
	return key{r.Ms(), r.Serial, k.h.Sum64()}
}

// count is how many records of a key are in a batch that searches do not find yet, or that is left out of the comparing of
// the present file; own of them are of file.
type count struct{ n, own, file uint32 }

// generation has the keys of a batch's records until all later files find them in the store.
type generation struct {
	keys  map[key]count
	first uint32 // the first file that it has records of
	batch uint64 // 0 until it is stored
}

func newGeneration(file uint32) *generation { return &generation{keys: map[key]count{}, first: file} }

// others is how many records of a key files before one have in it.
func (g *generation) others(k key, file uint32) uint32 {
	c, ok := g.keys[k]
	if !ok {
		return 0
	}
	if c.file != file {
		return c.n
	}
	return c.n - c.own
}

// forget forgets the keys of which only one file has records in the batch.
func (g *generation) forget(file uint32) {
	kept := map[key]count{} // a map from which much is deleted takes as much memory as before
	for k, c := range g.keys {
		if g.others(k, file) > 0 {
			kept[k] = c
		}
	}
	g.keys = kept
}

// add notes that a record of a file is in the batch.
func (g *generation) add(k key, file uint32) {
	c := g.keys[k]
	if c.file != file {
		c.file, c.own = file, 0
	}
	c.n, c.own = c.n+1, c.own+1
	g.keys[k] = c
}

// mostConsumed is how many records of a file that the store has are remembered one by one, at least: identical ones of a
// file that lie further apart, and of which the store has some, count as these.
const mostConsumed = 1 << 20

// consumed counts, by key, records of the present file for which the store has one.
type consumed struct{ now, before map[key]uint32 }

func (c *consumed) of(k key) uint32 { return c.now[k] + c.before[k] }

func (c *consumed) add(k key) {
	if c.now == nil || len(c.now) >= mostConsumed {
		c.now, c.before = map[key]uint32{}, c.now
	}
	c.now[k]++
}
