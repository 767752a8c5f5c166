package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// laidDay makes a compacted day's file another day's, in place: its marks, the catalogue, and of each group the summary and the table of blocks have
// the times of that day (store/bolt/FORMAT.md, store/group/FORMAT.md). Nothing in it gets longer. The events' text stays as it is.
func laidDay(file []byte, of, day time.Time) error {
	mark := func(t time.Time) []byte {
		return append(binary.LittleEndian.AppendUint32([]byte("day"), uint32(t.Unix()/86400)), "format"...)
	}
	if n := bytes.Count(file, mark(of)); n == 0 {
		return fmt.Errorf("%s: the file has no mark of its day", of.Format(time.DateOnly))
	}
	copyAll(file, mark(of), mark(day))
	groups := 0
	for at := 0; ; groups++ {
		i := bytes.Index(file[at:], []byte("AFGROUP\x00"))
		if i < 0 {
			break
		}
		at += i
		if err := laidGroup(file, at, day.Sub(of).Milliseconds()); err != nil {
			return err
		}
		at++
	}
	if groups == 0 {
		return fmt.Errorf("%s: the file has no groups", of.Format(time.DateOnly))
	}
	return nil
}

func copyAll(b, from, to []byte) {
	for at := 0; ; at++ {
		i := bytes.Index(b[at:], from)
		if i < 0 {
			return
		}
		at += i
		copy(b[at:], to)
	}
}

// Parts of a group: the head, an entry of its table, and where in the summary and a block's entry times are.
const (
	groupHead, groupEntry, groupSummary, groupBlocks = 16, 24, 1, 3
	blockEntry                                       = 64
)

// laidGroup moves the times of the group that begins there.
func laidGroup(file []byte, at int, by int64) error {
	g := file[at:]
	n := int(binary.LittleEndian.Uint16(g[10:]))
	head := groupHead + n*groupEntry
	if head > len(g) {
		return fmt.Errorf("a group of %d sections at byte %d", n, at)
	}
	move := func(b []byte, places ...int) {
		for _, p := range places {
			if ms := binary.LittleEndian.Uint64(b[p:]); ms != 0 {
				binary.LittleEndian.PutUint64(b[p:], ms+uint64(by))
			}
		}
	}
	for e := g[groupHead:head]; len(e) > 0; e = e[groupEntry:] {
		off, size := binary.LittleEndian.Uint64(e[8:]), binary.LittleEndian.Uint64(e[16:])
		if off > uint64(len(g)) || size > uint64(len(g))-off {
			return fmt.Errorf("a section of %d bytes of the group at byte %d", size, at)
		}
		body := g[off : off+size]
		switch e[0] {
		case groupSummary:
			was := bytes.Clone(body)
			move(body, 56, 64, 72)
			copyAll(file, was, body) // the catalogue
		case groupBlocks:
			for b := body; len(b) >= blockEntry; b = b[blockEntry:] {
				move(b, 32, 40)
			}
		default:
			continue
		}
		binary.LittleEndian.PutUint32(e[4:], crc32.Checksum(body, castagnoli))
	}
	binary.LittleEndian.PutUint32(g[12:], crc32.Update(crc32.Checksum(g[:12], castagnoli), castagnoli, g[groupHead:head]))
	return nil
}
