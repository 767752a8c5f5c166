package store

import (
	"context"
	"time"
)

// Roster is an engine that several collectors share, as the list of them: each writes what it is and has, and reads what the others
// have written. A collector writes every few seconds, so what the others read of it is as old at most.
//
// Of what one collector writes At tells only which is the latest: it is by that one's clock, which may be any. What others compare or show is Taken, when the engine took it,
// by the one clock that they have in common: that of the engine's servers.
type Roster interface {
	// Enter makes durable what this collector says of itself, and EnterHosts what it has of some hosts; others stay as they were.
	Enter(ctx context.Context, m *Member) error
	EnterHosts(ctx context.Context, hosts []MemberHost) error
	// Members returns the collectors that have ever entered, this one too. Of one whose word cannot be read Bad says so.
	Members(ctx context.Context) ([]Member, error)
	// MemberHosts returns what they have said of hosts; of one collector, or of all where it is "".
	MemberHosts(ctx context.Context, member string) ([]MemberHost, error)
	// EnterAccounts makes durable what this collector's account says of hosts, as the Data of each; MemberAccounts returns what one has entered, of some
	// hosts, or of all where there are none.
	EnterAccounts(ctx context.Context, list []MemberHost) error
	MemberAccounts(ctx context.Context, member string, hosts []string) ([]MemberHost, error)
	// MemberGone returns what was dropped of a collector's events since a time of the engine's (Taken): of each part what it had of some hosts, and of those that are not known.
	MemberGone(ctx context.Context, member string, hosts []string, sinceMs int64) ([]HostGone, error)
	// OwnGone returns likewise what was dropped of this collector's own events with some parts; of all hosts where there are none.
	OwnGone(ctx context.Context, hosts []string, parts []Part) ([]HostGone, error)
	// EnterSenders makes durable what this collector remembers of its senders: what of it has changed, and nil for what it has forgotten. MemberSenders
	// returns what each other collector has entered since a time of the engine's (Taken), and up to which of these times that is: that of the last of it.
	EnterSenders(ctx context.Context, atMs int64, changed []KV) error
	MemberSenders(ctx context.Context, sinceMs int64) (all map[string][]KV, upTo int64, err error)
	// Behind returns how many records of each host the engine has of a collector in batches after one.
	Behind(ctx context.Context, member string, batch uint64) (map[string]uint64, error)
	// Seen returns which batch of each other collector is the last that answers have from now on, as it was not before a time; see
	// query.Query.Others.
	Seen(ctx context.Context, notBefore time.Time) (map[string]uint64, error)
	// Lose makes durable that a collector is gone for good, whose last word is of a time before: what it has put on hold is so no longer.
	Lose(ctx context.Context, member string, atMs int64) error
}

// Listed is a store whose events lie where other collectors keep theirs.
type Listed interface {
	// Roster returns the list of them; nil where the engine has none.
	Roster() Roster
	// Delivered is the batch up to which the engine has all; math.MaxUint64 where nothing waits for it.
	Delivered() uint64
	// Unaged returns the parts that the engine has dropped of the place's own events and that its account still has as if they were there, or had a moment ago: of days and classes of
	// which other parts are there, and those that were dropped just now. While known is false, right behind a start, some that were dropped before it may be missing.
	Unaged(ctx context.Context) (parts []Part, known bool, err error)
}

// Member is a collector that keeps its events where others do, too. Times are in milliseconds since 1970.
type Member struct {
	Store   string `json:"-"`    // the ID of its place
	Name    string `json:"name"` // as people call it
	Address string `json:"address,omitempty"`
	Version string `json:"version,omitempty"`
	// Key is the public key by which it signs its log; "": it signs none.
	Key     string `json:"key,omitempty"`
	Started int64  `json:"started"` // by its clock
	At      int64  `json:"-"`       // more in each word of it
	Taken   int64  `json:"-"`       // when the engine took this
	// Behind is how long before it wrote this what it has of hosts was what it has written of them, in ms.
	Behind int64 `json:"behind,omitempty"`
	// Stopped says that it ended in good order, and holds nothing back.
	Stopped bool `json:"stopped,omitempty"`
	// Lost is more than At where it was said to be gone for good; 0: never, or it was heard of since.
	Lost int64 `json:"-"`
	// Bad says that what it wrote cannot be read: nothing but Store, At, Taken and Lost is known of it.
	Bad error `json:"-"`
}

// Said returns of when what it has of hosts is as it has written.
func (m *Member) Said() int64 { return m.Taken - m.Behind }

// HostGone is what a part that was dropped had of a collector's events of a host of one day. Times are in milliseconds since 1970.
type HostGone struct {
	Host   string // "": of which hosts is not known
	Part   Part
	Class  string
	At     int64 // when it was dropped, by the clock of who did
	Taken  int64 // when the engine took that
	FromMs int64 // the time of the first of them
	ToMs   int64 // and of the last
}

// MemberHost is what a collector has of a host.
type MemberHost struct {
	Store, Host string
	At          int64  // more each time that it is written
	Taken       int64  // when the engine took this
	Batch       uint64 // the last that was stored then
	// Received is how many records it had received, ever, all of which it had acknowledged; Stored how many of these are in batches up to
	// Batch.
	Received, Stored uint64
	// Age is how long before it was written the first of the others may have come, in ms; 0: there are none.
	Age  int64
	Data []byte // what else it says, opaque
}

// Held returns how many records were in no stored batch.
func (h *MemberHost) Held() uint64 { return h.Received - min(h.Stored, h.Received) }
