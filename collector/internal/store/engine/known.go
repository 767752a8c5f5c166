package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/auditfleet/auditfleet/collector/internal/jsonfile"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/clickhouse"
	"github.com/auditfleet/auditfleet/pkg/fsys"
)

var knownKind = jsonfile.Kind{Head: "auditfleet events cluster ", Version: 1, Most: 64 << 10, Damaged: store.ErrDamaged, Newer: store.ErrVersion}

// memory keeps what a place knows of its cluster in a file of its folder.
type memory struct {
	dir      string
	readOnly bool
}

var _ clickhouse.Memory = memory{}

func (m memory) path() string { return filepath.Join(m.dir, clickhouse.KnownName) }

// Load implements clickhouse.Memory.
func (m memory) Load() (k clickhouse.Known, err error) {
	b, err := knownKind.Read(fsys.OS, m.path())
	if errors.Is(err, fs.ErrNotExist) {
		return k, nil
	}
	if err == nil {
		err = knownKind.Decode(b, &k)
	}
	if err != nil {
		return k, fmt.Errorf("read what is known of the cluster (remove %s to take it as it is): %w", m.path(), err)
	}
	return k, nil
}

// Keep implements clickhouse.Memory.
func (m memory) Keep(k clickhouse.Known) error {
	if m.readOnly {
		return nil
	}
	b, err := knownKind.Encode(k)
	if err == nil {
		err = fsys.Replace(m.path(), b, 0o600, true)
	}
	return err
}
