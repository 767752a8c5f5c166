package locallog

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/klauspost/compress/zstd"

	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/wake"
)

// packer compresses logs that were put aside, one at a time, from a goroutine of
// its own. The writer never waits for it but while it renames or removes a file.
//
// audit.log.N is read into audit.log.zst.new, which is synced, renamed to
// audit.log.N.zst, and its folder synced, before audit.log.N goes. A crash leaves
// audit.log.N until audit.log.N.zst is whole and on disk; where both are there,
// the plain one counts, for us and for the search.
type packer struct {
	fs     fsys.FS
	logger hclog.Logger

	mu sync.Mutex // guards what follows, and the names of the logs put aside
	packing
	job     job
	closing bool
	started bool
	kick    wake.Signal   // there may be something to compress
	quit    chan struct{} // closed to end the goroutine
	done    chan struct{} // closed when it has ended

	packed, failed atomic.Uint64
	saidFailing    bool // of the goroutine
}

// packing is the part of a configuration that concerns compressing.
type packing struct {
	path string
	mode fs.FileMode
	gid  int
	on   bool
}

// job is the log being compressed; without a name there is none, or it is gone
// and what was made of it is to be dropped.
type job struct {
	name   string
	placed bool // its compressed form has its name
}

// newPackedSuffix names what is being written.
const newPackedSuffix = packedSuffix + newSuffix

// packChunk is how much is compressed at a time: a fraction of a millisecond, and
// how soon it is noticed that it must stop.
const packChunk = 128 << 10

func newPacker(cfg *Config) *packer {
	return &packer{fs: cfg.FS, logger: cfg.Logger, kick: wake.New(), quit: make(chan struct{}), done: make(chan struct{})}
}

// configure says what to compress from now on.
func (p *packer) configure(c packing) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c != p.packing {
		p.drop()
	}
	p.packing = c
	if c.on && !p.started && !p.closing {
		p.started = true
		go p.run()
	}
	p.kick.Set()
}

// drop gives up the job that is under way: its log stays uncompressed. The caller holds mu.
func (p *packer) drop() {
	if p.job.placed {
		if err := p.fs.Remove(p.job.name + packedSuffix); err != nil {
			p.logger.Warn("a log is there twice, the uncompressed one counts", "file", p.job.name, "error", err)
		}
	}
	p.job = job{}
}

// moved tells the packer that a plain log was renamed. The caller holds mu.
func (p *packer) moved(from, to string) {
	if p.job.name == from {
		p.job.name = to
	}
}

// gone tells the packer that a log, or its compressed form, is about to be removed: the
// job must then not remove the other form. The caller holds mu.
func (p *packer) gone(name string) {
	if p.job.name == name {
		p.job = job{}
	}
}

// stop ends the goroutine and waits for it.
func (p *packer) stop() {
	p.mu.Lock()
	if !p.closing {
		p.closing = true
		close(p.quit)
	}
	started := p.started
	p.mu.Unlock()
	if started {
		<-p.done
	}
}

func (p *packer) run() {
	defer close(p.done)
	for {
		select {
		case <-p.quit:
			return
		case <-p.kick:
			p.round()
		}
	}
}

// round compresses all there is. What fails is tried again in the next round.
func (p *packer) round() {
	failed := make(map[string]bool)
	for {
		name, err := p.next(failed)
		if err != nil {
			p.note(name, err)
			failed[name] = true
		}
		if name == "" {
			return
		}
	}
}

func (p *packer) note(name string, err error) {
	p.failed.Add(1)
	if !p.saidFailing {
		p.saidFailing = true
		p.logger.Error("a rotated log could not be compressed and stays as it is; it is tried again after the next rotation", "file", name, "error", err)
	}
}

// next compresses the oldest log that is not compressed. It returns its name, or
// "" where there is none.
func (p *packer) next(failed map[string]bool) (string, error) {
	name, c, src, err := p.begin(failed)
	if src == nil {
		return name, err
	}
	tmp := c.path + newPackedSuffix
	err = errors.Join(p.pack(c, src, tmp), src.Close())
	if err == nil {
		err = p.place(tmp)
	}
	if err == nil {
		// Only once the new name is on disk may the other go.
		err = p.fs.SyncDir(filepath.Dir(c.path))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	last := p.job
	p.job = job{}
	switch {
	case errors.Is(err, errDropped), err == nil && last.name == "":
		return name, removeIfThere(p.fs, tmp)
	case err != nil:
		if last.placed {
			p.job = last
			p.drop()
		}
		return name, errors.Join(err, removeIfThere(p.fs, tmp))
	}
	if err := p.fs.Remove(last.name); err != nil {
		p.logger.Warn("a log is there twice, the uncompressed one counts", "file", last.name, "error", err)
		return name, err
	}
	p.packed.Add(1)
	p.saidFailing = false
	return name, nil
}

// errDropped is returned when a job is not to be finished.
var errDropped = errors.New("not to be compressed any more")

// begin chooses a log and opens it: no rotation can take its name away meanwhile.
func (p *packer) begin(failed map[string]bool) (name string, c packing, src fsys.File, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.on || p.closing {
		return "", c, nil, nil
	}
	logs, err := listOlder(p.fs, p.path)
	if err != nil {
		return "", c, nil, err
	}
	all := logs.byAge(false)
	i := slices.IndexFunc(all, func(o older) bool { return o.plain && !failed[o.name] })
	if i < 0 {
		return "", c, nil, nil
	}
	src, err = p.fs.OpenFile(all[i].name, os.O_RDONLY, 0)
	if err != nil {
		return all[i].name, c, nil, err
	}
	p.job = job{name: all[i].name}
	return all[i].name, p.packing, src, nil
}

// wanted reports whether the job is still to be done.
func (p *packer) wanted() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.job.name != "" && !p.closing
}

// pack writes and syncs tmp. Its time is its log's: the search tells by it which
// of a numbered and a dated log is older.
func (p *packer) pack(c packing, src fsys.File, tmp string) (err error) {
	if err := removeIfThere(p.fs, tmp); err != nil {
		return err
	}
	mode := c.mode &^ 0o200
	dst, err := p.fs.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := dst.Close(); err == nil {
			err = cerr
		}
	}()
	if err := dst.Chmod(mode); err != nil {
		return err
	}
	if c.gid > 0 {
		if err := dst.Chown(-1, c.gid); err != nil {
			return err
		}
	}
	if err := p.copyPacked(dst, src); err != nil {
		return err
	}
	at, err := src.ModTime()
	if err != nil {
		return err
	}
	if err := p.fs.Chtimes(tmp, time.Time{}, at); err != nil {
		return err
	}
	return dst.Sync()
}

// copyPacked compresses with little memory and no goroutines.
func (p *packer) copyPacked(dst io.Writer, src fsys.File) error {
	z, err := zstd.NewWriter(dst, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true), zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithWindowSize(1<<20), zstd.WithZeroFrames(true))
	if err != nil {
		return err
	}
	size, err := src.Size()
	if err != nil {
		return err
	}
	buf, total := make([]byte, packChunk), int64(0)
	for {
		if !p.wanted() {
			return errDropped
		}
		n, err := src.Read(buf)
		if _, err := z.Write(buf[:n]); err != nil {
			return err
		}
		total += int64(n)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		runtime.Gosched() // the reader of the kernel comes first
	}
	if total != size {
		return fmt.Errorf("%d bytes were read of %d", total, size)
	}
	return z.Close()
}

// place gives the compressed log its name.
func (p *packer) place(tmp string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.job.name == "" {
		return errDropped
	}
	if err := p.fs.Rename(tmp, p.job.name+packedSuffix); err != nil {
		return err
	}
	p.job.placed = true
	return nil
}

// removeLeftovers ends what a crash may have left: half a compressed log, and
// logs that are there twice.
func (p *packer) removeLeftovers(path string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := removeIfThere(p.fs, path+newPackedSuffix)
	logs, lerr := listOlder(p.fs, path)
	if lerr != nil {
		return errors.Join(err, lerr)
	}
	for _, o := range logs.byAge(false) {
		if o.plain && o.packed {
			err = errors.Join(err, removeIfThere(p.fs, o.name+packedSuffix))
		}
	}
	return err
}
