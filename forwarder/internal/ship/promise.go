package ship

import (
	"slices"
	"sync"
)

// Holder is a Conn whose server says which store it has, and how much of a stream: such a
// server is held to what it acknowledged before.
type Holder interface {
	// Holds returns the ID of the server's store, "" where it says none or is not sure of what
	// it holds; the stream that the connection began with; and the index up to which,
	// exclusive, the server holds it.
	Holds() (store string, stream [16]byte, held uint64)
}

// promises remember what each server has acknowledged of the stream that it got last, since
// this program's start. Any goroutine may use them.
type promises struct {
	mu sync.Mutex
	by map[string]*promise // guarded by mu; by server
}

// promise is what one server has said that it stored.
type promise struct {
	store  string
	stream [16]byte
	pieces []piece // ascending; between two of them other servers got the records
}

// piece is indexes in a row, to exclusive.
type piece struct{ from, to uint64 }

// maxPieces bounds a promise: beyond it the oldest two count as one.
const maxPieces = 64

// add notes what a server says that it stored.
func (p *promises) add(server, store string, stream [16]byte, from, to uint64) {
	if store == "" || from >= to {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.by[server]
	if was == nil || was.store != store || was.stream != stream {
		was = &promise{store: store, stream: stream}
		if p.by == nil {
			p.by = map[string]*promise{}
		}
		p.by[server] = was
	}
	for n := len(was.pieces); n > 0 && from <= was.pieces[n-1].to; n-- { // it goes on, or some is said again
		from, to = min(from, was.pieces[n-1].from), max(to, was.pieces[n-1].to)
		was.pieces = was.pieces[:n-1]
	}
	was.pieces = append(was.pieces, piece{from, to})
	if len(was.pieces) > maxPieces {
		was.pieces[1].from = was.pieces[0].from
		was.pieces = slices.Delete(was.pieces, 0, 1)
	}
}

// storeOf returns the store that a server has promised with, "" for none.
func (p *promises) storeOf(server string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if was := p.by[server]; was != nil {
		return was.store
	}
	return ""
}

// broken returns what a server has acknowledged and no longer has, and forgets it: what
// comes of it is the caller's.
func (p *promises) broken(server, store string, stream [16]byte, held uint64) (gone []piece) {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.by[server]
	if was == nil || was.store != store || was.stream != stream {
		return nil
	}
	kept := was.pieces[:0:0]
	for _, x := range was.pieces {
		if x.from < held {
			kept = append(kept, piece{x.from, min(x.to, held)})
		}
		if x.to > held {
			gone = append(gone, piece{max(x.from, held), x.to})
		}
	}
	was.pieces = kept
	return gone
}

// count returns how many indexes the pieces have from an index on.
func count(list []piece, from uint64) (n uint64) {
	for _, x := range list {
		if x.to > from {
			n += x.to - max(x.from, from)
		}
	}
	return n
}

// recall is called with a connection before anything is sent over it. Where the server has
// less than it once acknowledged, for its store was put back to an older state or had not
// synced it when the power failed, what the source still has of that is sent again. It
// returns the ID of the server's store, and up to which index the server holds the stream.
func (s *Sender) recall(server string, conn Conn) (store string, held uint64) {
	h, ok := conn.(Holder)
	if !ok {
		return "", 0
	}
	store, stream, held := h.Holds()
	if store == "" {
		return "", held
	}
	if was := s.promises.storeOf(server); was != "" && was != store {
		s.log.Info("the collector has another store than the one that acknowledged records before: it is another collector, or its store was begun anew", "server", server, "store", store, "before", was)
	}
	gone := s.promises.broken(server, store, stream, held)
	if len(gone) == 0 {
		return store, held
	}
	n, last := count(gone, 0), gone[len(gone)-1].to-1
	first, err := s.src.Rewind(gone[0].from)
	again := uint64(0)
	if err == nil {
		again = count(gone, first)
		s.mu.Lock()
		s.win = newWindow(len(s.win.ring))
		for _, by := range s.ackedBy {
			by.past = max(by.past, by.To) // what comes again is not counted again
		}
		s.progressed()
		s.mu.Unlock()
	}
	s.m.Recalled.Add(again)
	s.m.Gone.Add(n - again)
	words := []any{"server", server, "store", store, "records", n, "first", gone[0].from, "last", last, "sent_again", again, "not_sent_again", n - again}
	if err != nil {
		words = append(words, "error", err)
	}
	s.log.Warn("the collector does not have records that it has acknowledged: its store was put back to an older state, or had not synced them when it failed", words...)
	return store, held
}
