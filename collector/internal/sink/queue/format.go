package queue

import (
	"encoding/json"
	"errors"
	"fmt"
)

// formatVersion is that of the entries in the log.
const formatVersion = 1

// change is an entry of the log, as FORMAT.md describes it.
type change struct {
	Version int      `json:"v"`
	Add     *addItem `json:"add,omitempty"`
	Done    []uint64 `json:"done,omitempty"`
	// Since voids all entries of the log before the one with this index.
	Since uint64 `json:"since,omitempty"`
}

type addItem struct {
	Seq     uint64          `json:"seq"`
	ID      string          `json:"id"`
	Episode string          `json:"episode,omitempty"`
	Group   string          `json:"group,omitempty"`
	Rank    int             `json:"rank,omitempty"`
	Data    json.RawMessage `json:"data"`
}

func added(e *Entry) *addItem {
	return &addItem{Seq: e.Seq, ID: e.ID, Episode: e.Episode, Group: e.Group, Rank: e.Rank, Data: e.Data}
}

func (a *addItem) entry() Entry {
	return Entry{Seq: a.Seq, Item: Item{ID: a.ID, Episode: a.Episode, Group: a.Group, Rank: a.Rank, Data: a.Data}}
}

func (c change) encode() ([]byte, error) {
	c.Version = formatVersion
	text, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode a change of the queue: %w", err)
	}
	return text, nil
}

// errNewer is returned for an entry that a newer program wrote.
var errNewer = errors.New("the queue was written by a newer version")

func decode(text []byte) (change, error) {
	var c change
	if err := json.Unmarshal(text, &c); err != nil {
		return change{}, fmt.Errorf("an entry of the queue is no JSON: %w", err)
	}
	switch {
	case c.Version > formatVersion:
		return change{}, errNewer
	case c.Version < 1:
		return change{}, fmt.Errorf("an entry of the queue has the version %d", c.Version)
	case c.Add != nil && (c.Add.Seq == 0 || len(c.Add.Data) == 0):
		return change{}, errors.New("an item of the queue has no number or no data")
	}
	return c, nil
}
