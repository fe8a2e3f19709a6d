package rival

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"

	_ "modernc.org/sqlite" // the driver
)

// SQLite opens a database in WAL mode that syncs every transaction.
func SQLite(ctx context.Context, dir string) (*Store, error) {
	db, err := sql.Open("sqlite", filepath.Join(dir, "queue.sqlite")+"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(ctx, "create table queue(id integer primary key, value blob)"); err != nil {
		return nil, err
	}
	insert, err := db.PrepareContext(ctx, "insert into queue(value) values(?)")
	if err != nil {
		return nil, err
	}
	f := newFront(func(values [][]byte) error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		s := tx.StmtContext(ctx, insert)
		for _, v := range values {
			if _, err := s.ExecContext(ctx, v); err != nil {
				return errors.Join(err, tx.Rollback())
			}
		}
		return tx.Commit()
	})
	return &Store{Name: "SQLite, WAL, FULL", Groups: byFront, Append: f.put, Close: func() error {
		f.close()
		return errors.Join(insert.Close(), db.Close())
	}}, nil
}
