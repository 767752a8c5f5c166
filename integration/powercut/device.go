package powercut

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
)

// limit is how long a command that makes or mounts a disk may take.
const limit = 2 * time.Minute

// Device is a virtual disk with a mounted filesystem, of which every write is logged: qemu's storage
// daemon shows a file through FUSE, and the kernel's loop driver makes a disk of that.
type Device struct {
	Dir    string // where it is mounted
	dir    string // its own files
	daemon *harness.Proc
	log    *os.File
}

// Tools returns which programs a Device needs.
func Tools() []string {
	return []string{"qemu-storage-daemon", "mkfs.ext4", "losetup", "mount", "umount"}
}

// NewDevice makes one, with its files in dir. The caller runs in a mount namespace of its own, so that
// nothing stays mounted when it dies.
func NewDevice(dir string, size int64) (_ *Device, err error) {
	d := &Device{Dir: filepath.Join(dir, "mnt"), dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	if err := os.MkdirAll(d.Dir, 0o700); err != nil {
		return nil, err
	}
	for _, name := range []string{"disk", "base", "export", "log"} {
		f, err := os.OpenFile(d.file(name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return nil, err
		}
		if name == "log" {
			d.log = f
			continue
		}
		if name == "disk" {
			if err := f.Truncate(size); err != nil {
				return nil, errors.Join(err, f.Close())
			}
		}
		if err := f.Close(); err != nil {
			return nil, err
		}
	}
	// All of it is made now: the kernel would go on for minutes, and fill the log with it.
	if err := run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", d.file("disk")); err != nil {
		return nil, err
	}
	if err := d.keepBase(); err != nil {
		return nil, err
	}
	own, err := os.Stat(d.file("export"))
	if err != nil {
		return nil, err
	}
	d.daemon, err = harness.Start(harness.Spec{Name: "qemu-storage-daemon", Args: []string{"qemu-storage-daemon",
		"--blockdev", "driver=file,node-name=data,filename=" + d.file("disk"),
		"--blockdev", "driver=file,node-name=writes,filename=" + d.file("log"),
		"--blockdev", "driver=blklogwrites,node-name=logged,file=data,log=writes,log-sector-size=512",
		"--export", "type=fuse,id=disk,node-name=logged,writable=on,mountpoint=" + d.file("export")}})
	if err != nil {
		return nil, err
	}
	shown := func() bool {
		info, err := os.Stat(d.file("export"))
		return err == nil && info.Size() == size && !os.SameFile(own, info)
	}
	if !harness.Poll(limit, func() bool { return shown() || d.daemon.Exited() }) || d.daemon.Exited() {
		return nil, fmt.Errorf("qemu-storage-daemon shows no disk:\n%s", d.daemon.Output())
	}
	return d, Mount(d.file("export"), d.Dir)
}

func (d *Device) file(name string) string { return filepath.Join(d.dir, name) }

func (d *Device) keepBase() (err error) {
	from, err := os.Open(d.file("disk"))
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(d.file("base"), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	return copySparse(to, from)
}

// Position returns how many bytes the log has: what a program has seen done before is in them. Any
// goroutine may call it until Close.
func (d *Device) Position() int64 {
	info, err := d.log.Stat()
	if err != nil {
		return 1 << 62 // nothing is taken for done then
	}
	return info.Size()
}

// Log reads what was logged so far.
func (d *Device) Log() (*Log, error) { return OpenLog(d.log, d.Position()) }

// Base opens the copy of the disk as it was at first. The caller closes it.
func (d *Device) Base() (*os.File, error) { return os.OpenFile(d.file("base"), os.O_RDWR, 0) }

// Stop unmounts the filesystem and ends the daemon; log and base can still be read. It may be called again.
func (d *Device) Stop() error {
	if d.daemon == nil {
		return nil
	}
	defer func() { d.daemon = nil }()
	err := Unmount(d.Dir)
	var last error
	// The kernel gives back a loop device a moment after the last one has closed it.
	if !harness.Poll(limit, func() bool { last = run("umount", d.file("export")); return last == nil }) {
		err = errors.Join(err, last)
	}
	d.daemon.Kill()
	return err
}

// Close stops it and closes the log. What is left are files in its folder.
func (d *Device) Close() error {
	err := d.Stop()
	if d.log != nil {
		err = errors.Join(err, d.log.Close())
		d.log = nil
	}
	return err
}

// Mount mounts the ext4 of an image; the kernel replays its journal first where there is something to be replayed.
func Mount(image, dir string) error { return run("mount", "-t", "ext4", "-o", "loop", image, dir) }

// Unmount unmounts it, and gives back the loop device.
func Unmount(dir string) error {
	var last error
	if !harness.Poll(limit, func() bool { last = run("umount", dir); return last == nil }) {
		return last
	}
	return nil
}

// run runs a command that must succeed.
func run(args ...string) error {
	r, err := harness.Run(limit, args...)
	if err == nil && r.Code != 0 {
		err = fmt.Errorf("%s: exit %d: %s%s", args[0], r.Code, r.Stdout, r.Stderr)
	}
	return err
}
