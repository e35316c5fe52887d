// Validates the AsyncAPI 3 document of standard input with the JSON Schema of its authors: prints what is wrong, and ends with 1 then.
//
// NODE_PATH leads to what tests/setup has installed below target/tools/schemas.
const Ajv = require("ajv");
const fs = require("node:fs");
const schema = require("@asyncapi/specs/schemas/3.0.0-without-$id.json");

// Not strict: the schema has words that only tools of its authors know. Formats are not a part of `ajv`.
const validate = new Ajv({ strict: false, allErrors: true, validateFormats: false }).compile(schema);
if (!validate(JSON.parse(fs.readFileSync(0, "utf8")))) {
    for (const { instancePath, message, params } of validate.errors) {
        console.log(instancePath, message, JSON.stringify(params));
    }
    process.exit(1);
}
