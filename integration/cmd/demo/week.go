package main

import (
	"bytes"
	"time"

	"github.com/auditfleet/auditfleet/internal/madeday"
)

// logs are the records that each host makes in the week, the same each time.
func logs() map[string]*bytes.Buffer {
	const minutes = days * 24 * 60
	week := madeday.New(madeday.Config{Seed: 16, Begin: monday, Hosts: len(hosts), Minutes: minutes, Rate: 1, Names: hosts, Work: work, Story: story(), Orderly: true})
	all := map[string]*bytes.Buffer{}
	next := map[string]uint64{}
	add := func(list []madeday.Batch) {
		for _, b := range list {
			to := all[b.Host.Name]
			if to == nil {
				to = &bytes.Buffer{}
				all[b.Host.Name] = to
			}
			for _, l := range b.Lines {
				if l.Index >= next[b.Host.Name] { // else it comes again
					next[b.Host.Name] = l.Index + 1
					to.Write(bytes.TrimPrefix(l.Raw, []byte("node="+b.Host.Name+" ")))
					to.WriteByte('\n')
				}
			}
		}
	}
	for !week.Over() {
		// The intruder's scan fills the backlog of the kernel.
		if week.Now().Sub(monday) == 2*24*time.Hour+(2*60+18)*time.Minute {
			week.Lose(host(week, "web1"), "kernel")
		}
		add(week.Minute(true))
	}
	add(week.Settle())
	return all
}

func host(d *madeday.Day, name string) *madeday.Host {
	for _, h := range d.Hosts {
		if h.Name == name {
			return h
		}
	}
	return nil
}
