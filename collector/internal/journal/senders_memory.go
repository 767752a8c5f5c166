package journal

import (
	"maps"
	"slices"
)

// What resend detection remembers is bounded by its memory, all together, and by the
// number of addresses. Where it is too much, the address that has the most of it
// forgets what was longest unused: so nobody takes memory from others by having many
// names, connections or numberings.
const (
	// ResendMemory bounds what resend detection takes.
	ResendMemory = 128 << 20

	// What is counted; TestSendersMemory compares with the heap.
	senderCost = 900
	streamCost = 800
	chunkCost  = 4 * chunkLen
	indexCost  = 80
	routeCost  = 64
	tailCost   = 170

	// maxAlike bounds the streams of an address with numbers of one chunk, since they
	// are looked through for each record: of random numberings they are a few.
	maxAlike = 256
	// maxWhere is more than the chunks that a window can touch.
	maxWhere = numChunks + 8
	// maxConns is the connections that may be known to have one stream's records: one,
	// and those that are over without anybody knowing yet.
	maxConns = 8
)

// account counts n bytes more of memory, or fewer.
func (x *sender) account(n int) {
	x.bytes += n
	x.all.bytes += n
}

// shrink brings the memory within bounds.
func (s *senders) shrink() {
	for s.bytes > s.most && len(s.all) > 0 {
		var fat *sender
		for _, x := range s.all {
			if fat == nil || x.bytes > fat.bytes {
				fat = x
			}
		}
		if fat.bytes < s.bytes/64 && len(s.all) > 1 {
			// Many addresses with about as much: whoever was longest unused.
			for range 1 + len(s.all)/64 {
				s.evict()
			}
			continue
		}
		s.thin(fat)
	}
}

// thin has an address forget an eighth of what it has.
func (s *senders) thin(x *sender) {
	s.touch(x)
	goal := x.bytes - x.bytes/8
	for x.bytes > goal && x.tails.n > keepTails && x.tails.n*tailCost > x.bytes/2 {
		x.tails.remove(x, x.tails.lru.next)
		s.forgotten++
	}
	if x.bytes <= goal {
		return
	}
	list := slices.SortedFunc(maps.Keys(x.streams), func(a, b *stream) int { return int(int64(a.used) - int64(b.used)) })
	for _, st := range list {
		if x.bytes <= goal {
			return
		}
		x.drop(st)
		s.forgotten++
	}
	for x.bytes > goal && x.tails.n > 0 {
		x.tails.remove(x, x.tails.lru.next)
		s.forgotten++
	}
	if x.bytes > goal {
		s.remove(x)
	}
}

// evict forgets the longest unused of some senders: the order of a map is
// random, so this is close to the longest unused of all.
func (s *senders) evict() {
	var old *sender
	n := 0
	for _, x := range s.all {
		if old == nil || x.used < old.used {
			old = x
		}
		if n++; n == 64 {
			break
		}
	}
	if old != nil {
		s.remove(old)
	}
}

// remove forgets an address.
func (s *senders) remove(x *sender) {
	s.forgotten += uint64(len(x.streams) + x.tails.n)
	for st := range x.streams {
		x.drop(st)
	}
	for x.tails.n > 0 {
		x.tails.remove(x, x.tails.lru.next)
	}
	x.account(-x.bytes)
	s.gone = append(s.gone, x.changes(nil)...)
	if x.dirty {
		s.dirty = slices.DeleteFunc(s.dirty, func(y *sender) bool { return x == y })
	}
	delete(s.all, x.id)
}
