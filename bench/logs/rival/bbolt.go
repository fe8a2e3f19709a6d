package rival

import (
	"context"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
)

// Bbolt opens a bbolt database that is appended to in key order, with full
// pages, and with the options that write the least. Its own DB.Batch waits 10 ms
// for company, so the front does better.
func Bbolt(_ context.Context, dir string) (*Store, error) {
	opt := &bbolt.Options{Timeout: time.Second, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType}
	db, err := bbolt.Open(filepath.Join(dir, "queue.db"), 0o600, opt)
	if err != nil {
		return nil, err
	}
	bucket := []byte("queue")
	err = db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket(bucket)
		return err
	})
	if err != nil {
		return nil, err
	}
	f := newFront(func(values [][]byte) error {
		return db.Update(func(tx *bbolt.Tx) error {
			b := tx.Bucket(bucket)
			b.FillPercent = .95
			for _, v := range values {
				n, err := b.NextSequence()
				if err != nil {
					return err
				}
				if err := b.Put(key(n), v); err != nil {
					return err
				}
			}
			return nil
		})
	})
	return &Store{Name: "bbolt", Groups: byFront, Append: f.put, Close: func() error {
		f.close()
		return db.Close()
	}}, nil
}
