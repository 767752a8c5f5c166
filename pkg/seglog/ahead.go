package seglog

// Space that fallocate(2) has set aside has no data yet: the first sync of each block of it changes what the filesystem knows of
// the file, which is written, too, and in most filesystems through a journal of their own. Zeroes written ahead make that one sync of
// many. Whoever writes much has few syncs a block anyway.
const (
	aheadBytes = 64 << 10
	aheadBelow = 8 << 10 // of an append, that zeroes are written for
)

// zeroAhead writes zeroes behind an append that ends at end and had n bytes, unless there are some. A disk that
// refuses them is heard of by the next append or sync: nobody needs them. The caller holds mu.
func (l *Log) zeroAhead(end int64, n int) {
	if n >= aheadBelow || end <= l.zeroedTo || l.opt.Preallocate != PreallocateSpace {
		return
	}
	to := min(end+aheadBytes, l.opt.SegmentBytes)
	if to <= end {
		return
	}
	if l.zeroes == nil {
		l.zeroes = make([]byte, aheadBytes)
	}
	l.zeroedTo = to
	_, _ = l.file.WriteAt(l.zeroes[:to-end], end)
}
