"""An S3 event becomes a published output, through the Runtime API."""

from __future__ import annotations


def test_an_object_is_staged_in_processed_and_its_output_published(lab, bucket, out):
    agent = lab.agent('tr a-z A-Z < "$INPUT_FILE_PATH" > "$TMP_OUTPUT_DIR/result.txt"; echo done', outputs=out)
    answer = agent.invoke({"Records": [bucket.put("in/a.txt", b"hello")]}, request_id="r-1")
    assert answer.error_type is None
    assert answer.document["request_id"] == "r-1"
    run = answer.document["runs"][0]
    assert (run["key"], run["exit_code"], run["output"]) == ("in/a.txt", 0, "done\n")
    assert run["outputs"] == [f"s3://{bucket.name}/out/result.txt"]
    assert bucket.get("out/result.txt") == b"HELLO"
    assert list(agent.temporary.iterdir()) == []
