package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/auditfleet/auditfleet/collector/internal/jsonfile"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/clickhouse"
	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// fileName is the file in a place's folder that says where its events are: whoever opens the folder without being told finds them, and nobody takes it for a
// store that has none. It has no secrets, and is not there where the events are in the folder.
const fileName = "events-elsewhere"

var kind = jsonfile.Kind{Head: "auditfleet events elsewhere ", Version: 1, Most: 64 << 10, Damaged: store.ErrDamaged, Newer: store.ErrVersion}

// elsewhere is the file's content.
type elsewhere struct {
	Cluster string `json:"cluster"` // as clickhouse.Parse reads it
}

// IsCluster reports whether the name of a store is that of a cluster, and no folder's.
func IsCluster(name string) bool { return strings.HasPrefix(name, clickhouse.Scheme) }

// CheckCluster returns what is wrong with the name of a cluster. It reads no file and asks nobody.
func CheckCluster(name string) error {
	_, err := clickhouse.Parse(name)
	return err
}

// Elsewhere returns where the events of the place in a folder are; "" where they are in the folder, or nothing is there.
func Elsewhere(dir string) (string, error) {
	b, err := kind.Read(fsys.OS, filepath.Join(dir, fileName))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	var at elsewhere
	if err == nil {
		err = kind.Decode(b, &at)
	}
	if err != nil {
		return "", fmt.Errorf("read where the events are: %w", err)
	}
	return at.Cluster, nil
}

// ErrElsewhere is returned for what is done on files of events, where these are in a cluster.
var ErrElsewhere = errors.New("the events of this store are not in its folder")

// InFolder returns nil where a place's events are in its folder; else an ErrElsewhere with what to do instead.
func InFolder(dir, instead string) error {
	at, err := Elsewhere(dir)
	if err == nil && at != "" {
		where, _, _ := strings.Cut(at, "?")
		err = fmt.Errorf("%w, but in %s: %s", ErrElsewhere, where, instead)
	}
	return err
}

// settle finds out where the events of a place are, of what is asked for and what the folder says, and keeps it there. has says that
// the folder has events.
func settle(o *Options, has, marked bool) (*clickhouse.Address, error) {
	was, err := Elsewhere(o.Dir)
	if err != nil {
		return nil, err
	}
	text := o.Cluster
	if text == "" {
		text = was
	}
	switch {
	case text == "" && marked:
		return nil, fmt.Errorf("the events of this store are in a cluster, and %s, which says in which, is not there: name it again, as --store %sHOST:PORT,…/DATABASE, with --store-folder %s", fileName, clickhouse.Scheme, o.Dir)
	case text == "":
		return nil, nil //nolint:nilnil // they are in the folder
	}
	a, err := clickhouse.Parse(text)
	if err != nil {
		return nil, err
	}
	switch before, perr := clickhouse.Parse(was); {
	case was == "" && has:
		return nil, fmt.Errorf("%s has events of its own, which do not move to a cluster: give another folder with --store-folder, and search this one beside it", o.Dir)
	case was != "" && perr == nil && (before.Database != a.Database || before.Shards != a.Shards):
		return nil, fmt.Errorf("the events of %s are in %s with %d shards, and %s with %d is asked for: give a folder of its own with --store-folder", o.Dir, before, before.Shards, a, a.Shards)
	}
	if was == text || o.ReadOnly {
		return a, nil
	}
	b, err := kind.Encode(elsewhere{text})
	if err == nil {
		err = fsys.Replace(filepath.Join(o.Dir, fileName), b, 0o600, true)
	}
	if err != nil {
		return nil, fmt.Errorf("keep where the events are: %w", err)
	}
	return a, nil
}
