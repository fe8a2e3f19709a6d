package rival

import (
	"context"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Raw overwrites 4 KiB pages of a file that was written before, each followed by
// fdatasync: what the file system can do at best. It is for one goroutine.
func Raw(_ context.Context, dir string) (*Store, error) {
	const pageBytes, fileBytes = 4 << 10, 16 << 20
	f, err := os.Create(filepath.Join(dir, "raw"))
	if err != nil {
		return nil, err
	}
	if _, err := f.Write(make([]byte, fileBytes)); err != nil {
		return nil, err
	}
	page, at := make([]byte, pageBytes), int64(0)
	return &Store{
		Name: "4 KiB overwrite + fdatasync", Groups: byNobody, Close: f.Close,
		Append: func(value []byte) error {
			copy(page, value)
			if _, err := f.WriteAt(page, at); err != nil {
				return err
			}
			at = (at + pageBytes) % fileBytes
			return unix.Fdatasync(int(f.Fd()))
		},
	}, f.Sync()
}
