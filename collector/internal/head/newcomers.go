package head

import (
	"net/netip"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/pkg/event"
)

// DefaultNewNames is how many names an address may add a day: about as many hosts as
// come through one relay or address translator for the first time at once.
const DefaultNewNames = 1024

// newcomers bounds the names that each address adds: a name costs its inventor
// nothing, and takes a place that a host of later has not. An address has so many at
// once, and gets them back in the course of a day.
type newcomers struct {
	most    int // a day; negative: any number
	by      map[netip.Addr]*allowance
	dropped time.Time // when it was last looked for those that are whole again
}

type allowance struct {
	used float64
	at   time.Time // of the time that used is of
	told time.Time // when it was last said that there are too many
}

// admit says whether an address may add a name, which uses some of its allowance, and
// otherwise whether that is to be told. There are at most as many allowances as there are hosts: one that
// is whole again is dropped.
func (n *newcomers) admit(addr netip.Addr, now time.Time, bound int) (ok, tell bool) {
	if n.most < 0 || !addr.IsValid() {
		return true, false
	}
	a := n.by[addr]
	if a == nil {
		if since := now.Sub(n.dropped); len(n.by) >= bound && (since >= dropEvery || since < 0) {
			n.drop(now)
		}
		if len(n.by) >= bound {
			return false, false
		}
		a = &allowance{at: now}
		n.by[addr] = a
	}
	a.used = n.left(a, now)
	a.at = now
	if a.used+1 <= float64(n.most) {
		a.used++
		return true, false
	}
	if tell = a.told.IsZero() || now.Sub(a.told) >= noticeEvery || now.Before(a.told); tell {
		a.told = now
	}
	return false, tell
}

// left is how much of an allowance is used at a time. A clock that goes back gives
// nothing.
func (n *newcomers) left(a *allowance, now time.Time) float64 {
	return max(0, a.used-float64(n.most)*max(0, now.Sub(a.at).Hours()/24))
}

// dropEvery is how often allowances are dropped where there are too many: that looks at all of them, and
// whoever sends can ask for it with each record.
const dropEvery = time.Second

// drop forgets the addresses whose allowance is whole again.
func (n *newcomers) drop(now time.Time) {
	n.dropped = now
	for addr, a := range n.by {
		if n.left(a, now) == 0 {
			delete(n.by, addr)
		}
	}
}

// Notice is something about a name that the head was told by a peer, for the log
// and as a record of the collector's own.
type Notice struct {
	Kind NoticeKind
	Name string     // as the peer said it: any bytes
	Host string     // under which the records are kept, where that is another
	Addr netip.Addr // that said it
	Was  netip.Addr // that said it before; not valid: the collector itself
	// Omitted are the notices of any kind since the last that was given.
	Omitted uint64
}

// NoticeKind says what a notice is about.
type NoticeKind uint8

const (
	// NewAddress is given when a name comes from an address that it never came from.
	NewAddress NoticeKind = iota
	// ByTurns is given when a name comes from an address again, after it came from
	// another one.
	ByTurns
	// TooManyNames is given when an address has added as many names as it may.
	TooManyNames
	// OtherName is given when a sender that has proved its name claims another: Was is not
	// set, and Host is the proved one.
	OtherName
	// NotYours is given when a sender in clear text claims a name that it may not use:
	// one that is verified, or that trusted_senders gives to other addresses.
	NotYours
)

const (
	// noticeEvery bounds notices of one kind about one name or address.
	noticeEvery = time.Hour
	// noticesMinute bounds all together, so that nobody fills log and disk with them.
	noticesMinute = 30
)

// notices gives notices within bounds.
type notices struct {
	minute  time.Time
	given   int
	omitted uint64
}

// notice gives one, unless what it is about was told before the start. mu is held.
func (h *Head) notice(n Notice, now time.Time) {
	if h.opts.OnNotice == nil || h.replaying {
		return
	}
	s := &h.noticed
	if now.Sub(s.minute) >= time.Minute || now.Before(s.minute) {
		s.minute, s.given = now, 0
	}
	if s.given >= noticesMinute {
		s.omitted++
		return
	}
	s.given++
	n.Omitted, s.omitted = s.omitted, 0
	h.opts.OnNotice(n)
}

// checkAddress gives notice when a host's records come from another address than before.
// What the hosts file names is the administrator's to know, and a verified name may move; what
// of that is odd, shared says.
func (h *Head) checkAddress(x *host, b *journal.Batch, addr netip.Addr) {
	if b.Sender.Verified != "" {
		h.shared(x, b, addr)
		return
	}
	if h.replaying || x == h.mixed || x.Records == 0 || x.Name == b.Sender.Name() || x.Name == addr.String() {
		return
	}
	n := Notice{Kind: NewAddress, Name: x.Name, Addr: addr}
	if len(x.Addrs) > 0 {
		n.Was = x.Addrs[0]
	}
	since := b.Received.Sub(x.moved)
	x.moved = b.Received
	h.stats.AddressChanges++
	for _, a := range x.Addrs {
		if a == addr {
			n.Kind = ByTurns
		}
	}
	if n.Kind == ByTurns {
		x.turn(since)
		if !x.turned.IsZero() && b.Received.Sub(x.turned) < noticeEvery && !b.Received.Before(x.turned) {
			return
		}
		x.turned = b.Received
	}
	h.notice(n, b.Received)
}

const (
	// together is how soon a name comes from its former address again where two hosts have it: one
	// that moves does not come and go so fast.
	together = time.Minute
	// turnsOfTwo is how often in a row it does so before that counts as a sign of two hosts: a host
	// with two links may change them, and back.
	turnsOfTwo = 3
)

// turn counts that a host's records come from a former address again, that long after they came
// from another one.
func (x *host) turn(since time.Duration) {
	if since < 0 || since >= together {
		x.turns = 0
		return
	}
	if x.turns++; x.turns >= turnsOfTwo {
		x.twins++
	}
}

// Twins notes a transport's sign that two hosts have a name which both have proved.
func (h *Head) Twins(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if x := h.hosts[name]; x != nil {
		x.twins++
	}
}

// shared gives notice when a verified name comes from two addresses at once: two hosts have one
// certificate or key. Ingest tells those by gRPC apart, by their boots.
func (h *Head) shared(x *host, b *journal.Batch, addr netip.Addr) {
	last := x.moved
	x.moved = b.Received
	since := b.Received.Sub(last)
	if h.replaying || b.Sender.Transport == event.TransportGRPC || len(x.Addrs) < 2 || last.IsZero() || since < 0 || since >= together {
		return
	}
	was := x.Addrs[0]
	if x.Addrs[1] != addr || was.Is4() != addr.Is4() { // one host may be there by both families
		return
	}
	h.stats.AddressChanges++
	x.turn(since)
	if !x.turned.IsZero() && b.Received.Sub(x.turned) < noticeEvery && !b.Received.Before(x.turned) {
		return
	}
	x.turned = b.Received
	h.notice(Notice{Kind: ByTurns, Name: x.Name, Addr: addr, Was: was}, b.Received)
}
