package witness

import (
	"fmt"
	"time"
)

// heldOf returns what is kept of a store; nil: nothing.
func (k *Keeper) heldOf(store string) *Held {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.held[store]
}

// keysOf returns how many stores a server has shown, and whether a key is that of one of them.
func (k *Keeper) keysOf(server string) (stores int, has func(key string) bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	keys := map[string]bool{}
	for _, h := range k.held {
		if h.shownBy(server) {
			stores++
			keys[h.Key] = true
		}
	}
	return stores, func(key string) bool { return keys[key] }
}

// begin keeps the first checkpoint of a store.
func (k *Keeper) begin(server string, p *pending) {
	stores, _ := k.keysOf(server)
	k.mu.Lock()
	full := len(k.held) >= maxStores && !k.forget()
	k.mu.Unlock()
	if full {
		k.find(&Incident{Op: Bad, Server: server, Given: p.text,
			Text: fmt.Sprintf("checkpoints of %d stores are kept already, so that of another one is not: where these are collectors of the past, stop the forwarder and remove their files in %s", maxStores, k.dir)}, "stores")
		return
	}
	if other := k.signedWith(p.key); other != nil {
		k.find(&Incident{Op: Rewind, Server: server, Held: other.Text, Given: p.text,
			Text: "a collector's key, which signs one log, signs that of another store than before: its store was begun anew, and what was stored and signed is not in it, or two collectors have one key"}, p.Store)
	} else if stores > 0 {
		k.find(&Incident{Op: Store, Server: server, Text: "a collector has another store than before: it is another collector behind the same name, or its store was begun anew", Given: p.text}, p.Store)
	}
	verified := "as one of seal_keys"
	if !p.given {
		verified = "as the first key that this collector showed: name it in seal_keys to be sure of it"
	}
	k.cfg.Log.Info("this host is a witness of a collector's log from now on", "server", server, "store", p.Store, "size", p.Size, "key", p.key, "known", verified)
	k.keep(server, p, true)
}

// signedWith returns what is kept of a store whose log a key has signed last; nil: there is none.
func (k *Keeper) signedWith(key string) (last *Held) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, h := range k.held {
		if h.Key == key && (last == nil || h.Seen.After(last.Seen)) {
			last = h
		}
	}
	return last
}

// forget makes room for another store: of the one that showed nothing new for longest, if that is
// long. mu is held.
func (k *Keeper) forget() bool {
	var old *Held
	for _, h := range k.held {
		if old == nil || h.Seen.Before(old.Seen) {
			old = h
		}
	}
	if old == nil || k.cfg.Now().Sub(old.Seen) < idleStore {
		return false
	}
	delete(k.held, old.Store)
	k.dirty[old.Store] = true
	return true
}

// keep makes a checkpoint the newest of its store. verified: it goes on from the one before.
func (k *Keeper) keep(server string, p *pending, verified bool) {
	now := k.cfg.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	was := k.held[p.Store]
	if verified {
		k.counts.Verified++
	}
	h := &Held{Checkpoint: p.Checkpoint, Text: p.text, Key: p.key, Given: p.given, First: now}
	if was != nil {
		h.First, h.Servers = was.First, was.Servers
		if day := was.Seen.UTC().Format(time.DateOnly); day != now.UTC().Format(time.DateOnly) && len(k.days) < maxStores {
			k.days = append(k.days, dayOf{p.Store, Day{day, was.Text}})
		}
	}
	h.sees(server, now)
	delete(k.awaited, server)
	k.held[p.Store] = h
	k.dirty[p.Store] = true
	k.save.Set()
}
